//! Finds credentials that are stored where the agent would see them: in the configuration of git
//! directories in and above the workspace, and in files that it includes. A checkout leaves the token
//! of the job there.
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::git_config::redact;
use super::store::About;

/// Directories of a workspace that are looked at for git directories.
const MOST_DIRECTORIES: usize = 1000;
/// How deep below a workspace they are looked for.
const DEEPEST: usize = 3;
/// How deep below a git directory, for those of submodules.
const DEEPEST_MODULE: usize = 8;
/// Longest file that is looked through; a longer one is not shown at all.
const LARGEST: u64 = 1 << 20;

/// A file that the agent sees without its credentials.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Redaction {
    /// Where it is.
    pub path: PathBuf,
    /// Names of what is not shown; never values.
    pub keys: Vec<String>,
    /// What is shown.
    #[serde(skip)]
    pub shown: Shown,
}

/// A file to be shown in place of another.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Shown {
    /// Its content.
    pub content: Vec<u8>,
    /// Its owner on the host.
    pub uid: u32,
    /// Its group on the host.
    pub gid: u32,
    /// Its permissions.
    pub mode: u32,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Files with credentials.
    pub redactions: Vec<Redaction>,
    /// Whether the workspace has more directories than were looked at.
    pub cut_short: bool,
}

/// Looks for credentials; `more` are configuration files outside of any git directory.
///
/// # Errors
/// When a file that may hold some cannot be read.
pub fn find(workspace: &Path, more: &[PathBuf]) -> io::Result<Found> {
    let mut search = Search::default();
    for path in more {
        search.config(path)?;
    }
    for above in workspace.ancestors().skip(1) {
        search.git_entry(&above.join(".git"))?;
    }
    search.below(workspace)?;
    search.found.redactions.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(search.found)
}

#[derive(Debug, Default)]
struct Search {
    seen: BTreeSet<PathBuf>,
    found: Found,
}

impl Search {
    /// Looks at a workspace, nearest directories first.
    fn below(&mut self, workspace: &Path) -> io::Result<()> {
        let mut level = vec![workspace.to_path_buf()];
        let mut looked_at = 0;
        for _ in 0..=DEEPEST {
            let mut next = Vec::new();
            for dir in level {
                looked_at += 1;
                if looked_at > MOST_DIRECTORIES {
                    self.found.cut_short = true;
                    return Ok(());
                }
                let names = names(&dir)?;
                if names.iter().any(|(name, _)| name == "HEAD") {
                    self.git_directory(&dir, 0)?;
                }
                for (name, is_dir) in names {
                    if name.eq_ignore_ascii_case(".git") {
                        self.git_entry(&dir.join(name))?;
                    } else if is_dir {
                        next.push(dir.join(name));
                    }
                }
            }
            level = next;
        }
        Ok(())
    }

    /// A `.git`: the git directory, or a file that names it.
    fn git_entry(&mut self, path: &Path) -> io::Result<()> {
        let Some(meta) = absent(path.metadata())? else {
            return Ok(());
        };
        if meta.is_dir() {
            return self.git_directory(path, 0);
        }
        let Some(dir) = named_in(path, "gitdir:")? else {
            return Ok(());
        };
        self.git_directory(&dir, 0)?;
        match named_in(&dir.join("commondir"), "")? {
            Some(common) => self.git_directory(&common, 0),
            None => Ok(()),
        }
    }

    fn git_directory(&mut self, dir: &Path, depth: usize) -> io::Result<()> {
        for name in ["config", "config.worktree"] {
            self.config(&dir.join(name))?;
        }
        for (name, _) in names(&dir.join("worktrees"))? {
            let path = dir.join("worktrees").join(name).join("config.worktree");
            self.config(&path)?;
        }
        self.modules(&dir.join("modules"), depth)
    }

    /// Git directories of submodules, whose names may have slashes.
    fn modules(&mut self, dir: &Path, depth: usize) -> io::Result<()> {
        if depth > DEEPEST_MODULE {
            self.found.cut_short = true;
            return Ok(());
        }
        for (name, is_dir) in names(dir)? {
            let inner = dir.join(name);
            if is_dir && absent(fs::symlink_metadata(inner.join("HEAD")))?.is_some() {
                self.git_directory(&inner, depth + 1)?;
            } else if is_dir {
                self.modules(&inner, depth + 1)?;
            }
        }
        Ok(())
    }

    /// A configuration file, and those that it includes.
    fn config(&mut self, path: &Path) -> io::Result<()> {
        let Some(path) = absent(path.canonicalize())? else {
            return Ok(());
        };
        let Some(meta) = absent(path.metadata())?.filter(fs::Metadata::is_file) else {
            return Ok(());
        };
        if !self.seen.insert(path.clone()) {
            return Ok(());
        }
        let mut text = Vec::new();
        File::open(&path)?
            .take(LARGEST + 1)
            .read_to_end(&mut text)?;
        let mut redacted = redact(&text);
        if text.len() as u64 > LARGEST {
            redacted.text.clear();
            redacted.keys.push(String::from("(a file of that size)"));
        }
        if !redacted.keys.is_empty() {
            self.found.redactions.push(Redaction {
                path: path.clone(),
                keys: redacted.keys,
                shown: Shown {
                    content: redacted.text,
                    uid: meta.uid(),
                    gid: meta.gid(),
                    mode: meta.mode() & 0o777,
                },
            });
        }
        let beside = path.parent().unwrap_or(&path);
        for include in redacted.includes {
            // One below the home directory is below another one for the agent.
            self.config(&beside.join(include))?;
        }
        Ok(())
    }
}

/// Names in a directory, and whether they are directories; none where there is none.
fn names(dir: &Path) -> io::Result<Vec<(String, bool)>> {
    let Some(entries) = absent(fs::read_dir(dir))? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let is_dir = entry.file_type()?.is_dir();
        // Git directories of other names are found by no build and no checkout.
        if let Ok(name) = entry.file_name().into_string() {
            names.push((name, is_dir));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The path in a file of one line, such as `.git` and `commondir`.
fn named_in(file: &Path, prefix: &str) -> io::Result<Option<PathBuf>> {
    let Some(text) = absent(fs::read(file))? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&text);
    let path = text.trim().strip_prefix(prefix).map(str::trim);
    let beside = file.parent().unwrap_or(file);
    Ok(path.map(|path| beside.join(path)))
}

fn absent<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Shown {
    /// Writes it to `path`, with the owner that it has for the agent.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, &self.content)?;
        chown(path, Some(self.uid), Some(self.gid))?;
        fs::set_permissions(path, Permissions::from_mode(self.mode))
    }

    /// The same file as an idmapped workspace shows it.
    #[must_use]
    pub fn mapped(&self, about: Exchange) -> Self {
        Self {
            uid: about.uid(self.uid),
            gid: about.gid(self.gid),
            ..self.clone()
        }
    }
}

/// Owner and agent of a workspace, which the agent's view exchanges.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    owner: (u32, u32),
    agent: u32,
}

impl Exchange {
    /// That of the directory `workspace` and `agent`.
    ///
    /// # Errors
    /// Those of `stat(2)`.
    pub fn of(workspace: &Path, agent: u32) -> io::Result<Self> {
        let meta = workspace.metadata()?;
        let owner = (meta.uid(), meta.gid());
        Ok(Self { owner, agent })
    }

    fn uid(self, id: u32) -> u32 {
        if id == self.owner.0 { self.agent } else { id }
    }

    fn gid(self, id: u32) -> u32 {
        if id == self.owner.1 { self.agent } else { id }
    }
}

impl From<&About> for Exchange {
    fn from(about: &About) -> Self {
        Self {
            owner: (about.uid, about.gid),
            agent: about.agent,
        }
    }
}

/// Fills `layer`, which lies over the workspace in the agent's overlay, with what is shown there.
///
/// # Errors
/// Those of writing.
pub fn fill_layer(layer: &Path, about: &About, redactions: &[Redaction]) -> io::Result<()> {
    let exchange = Exchange::from(about);
    for one in redactions {
        let Ok(below) = one.path.strip_prefix(&about.workspace) else {
            continue;
        };
        let (mut host, mut at) = (about.workspace.clone(), layer.to_path_buf());
        for component in below.parent().into_iter().flat_map(Path::components) {
            host.push(component);
            at.push(component);
            if !at.is_dir() {
                let meta = host.metadata()?;
                DirBuilder::new().mode(0o700).create(&at)?;
                let (uid, gid) = (exchange.uid(meta.uid()), exchange.gid(meta.gid()));
                chown(&at, Some(uid), Some(gid))?;
                fs::set_permissions(&at, Permissions::from_mode(meta.mode() & 0o777))?;
            }
        }
        one.shown.mapped(exchange).write(&layer.join(below))?;
    }
    Ok(())
}

/// Puts what is shown into `copy`, a copy of the workspace.
///
/// # Errors
/// Those of writing.
pub fn put_into_copy(copy: &Path, about: &About, redactions: &[Redaction]) -> io::Result<()> {
    for one in redactions {
        if let Ok(below) = one.path.strip_prefix(&about.workspace) {
            let shown = one.shown.mapped(Exchange::from(about));
            shown.write(&copy.join(below))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_git_directory_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let secret = "[http]\n extraheader = AUTHORIZATION: basic x\n";
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for path in [
            ".git/config",
            "w/.git/config",
            "w/.git/config.worktree",
            "w/.git/worktrees/a/config.worktree",
            "w/.git/modules/a/b/config",
            "w/sub/dir/.git/config",
            "w/bare.git/config",
            "elsewhere/.git/config",
            "temp/credentials",
            "w/plain",
        ] {
            put(path, secret);
        }
        put("w/.git/modules/a/b/HEAD", "");
        put("w/bare.git/HEAD", "");
        put("w/tree/.git", "gitdir: ../../elsewhere/.git/worktrees/t\n");
        put("elsewhere/.git/worktrees/t/commondir", "../..\n");
        let include = format!("[include]\npath = {}/temp/credentials\n", root.display());
        put("w/other/.git/config", &include);
        let found = find(&root.join("w"), &[]).unwrap();
        assert!(!found.cut_short);
        let paths: Vec<String> = found
            .redactions
            .iter()
            .map(|one| one.path.strip_prefix(&root).unwrap().display().to_string())
            .collect();
        assert_eq!(
            paths,
            [
                ".git/config",
                "elsewhere/.git/config",
                "temp/credentials",
                "w/.git/config",
                "w/.git/config.worktree",
                "w/.git/modules/a/b/config",
                "w/.git/worktrees/a/config.worktree",
                "w/bare.git/config",
                "w/sub/dir/.git/config",
            ]
        );
        assert_eq!(found.redactions[0].keys, ["http.extraheader"]);
    }
}
