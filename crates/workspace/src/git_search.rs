//! Finds stored credentials that the command could read. This module searches the git directories
//! inside and above the workspace, and the files that their configuration names. For example, a
//! checkout action leaves the job's token in a git directory. In the same directories, and in
//! homes, [`known_search`](super::known_search) finds the files of other tools.
//!
//! An earlier run may have written the files that this module reads. The search therefore uses lists with limits
//! instead of recursion, and opens files through [`Reach`]. If a run may have written a configuration, the files that
//! it names are searched only in the workspace and in the caller's home.
//!
//! Claims: git-includes, read-git-files, shown-credentials
use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::credentials::{Found, Redaction};
use super::git_directory::{is_git_directory, named_in, resolved};
use super::git_files::{Bounds, Files, Treatment};
use super::known_search::{KnownSearch, homes};
use super::reach::Reach;

/// The maximum number of directories of the workspace that are listed, and the maximum number of
/// names in these directories.
const WORKSPACE: Budget = Budget {
    directories: 1000,
    names: 500_000,
};
/// The same limits for homes, directories of programs, and the directories above the workspace.
const HOMES: Budget = Budget {
    directories: 200,
    names: 100_000,
};
/// Directories of a home that are listed: the home itself, and those for programs of the user.
const IN_HOME: [&str; 3] = ["", ".local/bin", "bin"];
/// The same limits for git directories, including the directories of submodules and worktrees.
const GIT: Budget = Budget {
    directories: 5000,
    names: 500_000,
};
/// The same limits for logs, to which the command can add any number of files.
const TEXTS: Budget = Budget {
    directories: 5000,
    names: 10_000,
};
/// The maximum depth of the search for git directories below a workspace.
const DEEPEST: usize = 3;
/// The maximum number of levels in the names of submodules and refs.
const DEEPEST_NAME: usize = 8;
/// Files of a git directory that are shown unchanged. Any other file that is not text is shown
/// empty, because tools and `git credential-store --file` keep tokens in such files.
const DATA: [&str; 11] = [
    "COMMIT_EDITMSG",
    "TAG_EDITMSG",
    "commondir",
    "description",
    "gc.log",
    "gc.pid",
    "gitdir",
    "index",
    "locked",
    "packed-refs",
    "shallow",
];
/// Prefixes of the names of more files that are shown unchanged.
const DATA_BEGINS: [&str; 5] = [
    "HEAD.",
    "index.",
    "packed-refs.",
    "shallow.",
    "sharedindex.",
];

/// The places that are searched. No path contains links.
#[derive(Debug, Clone, Copy)]
pub struct Places<'p> {
    /// The workspace.
    pub workspace: &'p Path,
    /// The caller's home.
    pub home: Option<&'p Path>,
    /// Directories of programs that the command can read although the home is closed.
    pub tools: &'p [PathBuf],
    /// Paths that are hidden from the command anyway.
    pub masked: &'p [PathBuf],
    /// Files, and directories with files, that the caller wants left visible even if they are found.
    pub wanted: &'p [PathBuf],
    /// The text with which private keys of egress begin.
    pub key: &'static str,
}

/// Searches for credentials.
///
/// # Errors
/// Fails if a file that may contain credentials cannot be read.
pub fn find(places: &Places<'_>) -> io::Result<Found> {
    let workspace = places.workspace;
    // The root directory is never a home, whatever the variable contains.
    let home = places
        .home
        .filter(|home| home.is_absolute())
        .and_then(resolved)
        .filter(|home| home.parent().is_some());
    let mut search = Search {
        reach: Reach::of(workspace, places.tools)?,
        files: Files::new(workspace, home.as_deref(), places.key),
        known: KnownSearch::new(),
        git: VecDeque::new(),
        texts: Vec::new(),
        cut_short: false,
    };
    let files = &mut search.files;
    files.add(Path::new("/etc/gitconfig"), Treatment::Config(Bounds::Host));
    if let Some(home) = &home {
        for (name, treatment) in [
            (".gitconfig", Treatment::Config(Bounds::Host)),
            (".config/git/config", Treatment::Config(Bounds::Host)),
        ] {
            files.add(&home.join(name), treatment);
        }
    }
    search.homes(places, home.as_deref())?;
    search.below(workspace)?;
    search.git_directories()?;
    let mut found = search.files.look(&search.reach)?;
    found.cut_short |= search.cut_short || search.known.cut_short;
    let is_masked = |path: &Path| {
        let mut masked = places.masked.iter();
        masked.any(|masked| path.starts_with(masked) && !workspace.starts_with(masked))
    };
    found.redactions.retain(|one| !is_masked(&one.path));
    let is_wanted = |one: &Redaction| places.wanted.iter().any(|path| one.path.starts_with(path));
    let (wanted, hidden) = found.redactions.into_iter().partition(is_wanted);
    (found.redactions, found.shown) = (hidden, wanted);
    found.redactions.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The remaining limits of a listing.
#[derive(Debug, Clone, Copy)]
struct Budget {
    directories: usize,
    names: usize,
}

#[derive(Debug)]
struct Search {
    reach: Reach,
    files: Files,
    known: KnownSearch,
    /// Git directories still to be searched.
    git: VecDeque<PathBuf>,
    /// Directories with text files, each with the git directory that it belongs to.
    texts: Vec<(PathBuf, PathBuf)>,
    cut_short: bool,
}

impl Search {
    /// Searches the homes that the command can read, their directories of programs, and the directories above the
    /// workspace. Links in a home may lead anywhere, unless the home is in the workspace, where a command could have
    /// made them.
    fn homes(&mut self, places: &Places<'_>, home: Option<&Path>) -> io::Result<()> {
        let workspace = places.workspace;
        let mut budget = HOMES;
        for home in homes(&self.reach, home)? {
            let bound = home.starts_with(workspace).then_some(workspace);
            for dir in IN_HOME {
                self.known_in(&home.join(dir), bound, &mut budget)?;
            }
        }
        for dir in places.tools {
            self.known_in(dir, None, &mut budget)?;
        }
        for above in workspace.ancestors().skip(1) {
            self.git_entry(&above.join(".git"))?;
            if above.parent().is_some() {
                self.known_in(above, None, &mut budget)?;
            }
        }
        Ok(())
    }

    fn known_in(
        &mut self,
        dir: &Path,
        bound: Option<&Path>,
        budget: &mut Budget,
    ) -> io::Result<()> {
        let names = self.list(dir, budget)?;
        self.known
            .directory(&self.reach, &mut self.files, (dir, &names), bound)
    }

    /// Searches a workspace, directories near its top first.
    fn below(&mut self, workspace: &Path) -> io::Result<()> {
        let mut budget = WORKSPACE;
        let mut level = vec![workspace.to_path_buf()];
        for _ in 0..=DEEPEST {
            let mut next = Vec::new();
            for dir in level {
                let names = self.list(&dir, &mut budget)?;
                self.known.directory(
                    &self.reach,
                    &mut self.files,
                    (&dir, &names),
                    Some(workspace),
                )?;
                if names.iter().any(|(name, _)| name == "HEAD")
                    && is_git_directory(&self.reach, &dir)?
                {
                    self.git.push_back(dir.clone());
                }
                for (name, is_dir) in names {
                    let path = dir.join(&name);
                    if name.eq_ignore_ascii_case(".git") {
                        self.git_entry(&path)?;
                    } else if is_dir {
                        next.push(path);
                    } else if name == ".gitmodules" || name == ".lfsconfig" {
                        self.files.add(&path, Treatment::Tracked);
                    }
                }
            }
            level = next;
        }
        Ok(())
    }

    /// Adds a `.git`, either the git directory itself or a file that names the git directory.
    fn git_entry(&mut self, path: &Path) -> io::Result<()> {
        let Some(path) = resolved(path) else {
            return Ok(());
        };
        if self.reach.is_dir(&path)? {
            self.git.push_back(path);
        } else {
            self.git.extend(named_in(&self.reach, &path, "gitdir:")?);
        }
        Ok(())
    }

    /// Whether a path in the workspace is inside a `.git`. No run can create a `.git`. A broken
    /// `.git` is searched too, because the command can read it.
    fn is_in_git_directory(&self, dir: &Path) -> bool {
        dir.strip_prefix(self.reach.workspace()).is_ok_and(|below| {
            below
                .components()
                .any(|name| name.as_os_str().eq_ignore_ascii_case(".git"))
        })
    }

    /// Searches every git directory that was found, and the git directories inside them.
    fn git_directories(&mut self) -> io::Result<()> {
        let mut budget = GIT;
        let mut seen = BTreeSet::new();
        while let Some(dir) = self.git.pop_front() {
            let Some(dir) = resolved(&dir) else {
                continue;
            };
            if !seen.insert(dir.clone())
                || !(self.is_in_git_directory(&dir) || is_git_directory(&self.reach, &dir)?)
            {
                continue;
            }
            self.git
                .extend(named_in(&self.reach, &dir.join("commondir"), "")?);
            for (name, is_dir) in self.list(&dir, &mut budget)? {
                let path = dir.join(&name);
                match name.to_str().unwrap_or("?") {
                    "worktrees" => {
                        let names = self.list(&path, &mut budget)?.into_iter();
                        self.git.extend(names.map(|(name, _)| path.join(name)));
                    }
                    "modules" => self.modules(path, &mut budget)?,
                    "branches" | "logs" | "remotes" => self.texts.push((dir.clone(), path)),
                    _ if is_dir => {}
                    name if name.starts_with("config") => {
                        self.git_file(&dir, &path, Treatment::Config(Bounds::Repository))?;
                    }
                    name if is_data(name) => {}
                    name if is_text(name) => self.git_file(&dir, &path, Treatment::Text)?,
                    _ => self.git_file(&dir, &path, Treatment::Whole)?,
                }
            }
        }
        let mut budget = TEXTS;
        for (dir, texts) in std::mem::take(&mut self.texts) {
            self.texts(&dir, texts, &mut budget)?;
        }
        Ok(())
    }

    /// Finds the git directories of submodules. The names of submodules may contain slashes.
    fn modules(&mut self, dir: PathBuf, budget: &mut Budget) -> io::Result<()> {
        let mut level = vec![dir];
        for _ in 0..DEEPEST_NAME {
            let mut next = Vec::new();
            for dir in level {
                let names = self.list(&dir, budget)?;
                if names.iter().any(|(name, _)| name == "HEAD") {
                    self.git.push_back(dir);
                    continue;
                }
                let dirs = names.into_iter().filter(|(_, is_dir)| *is_dir);
                next.extend(dirs.map(|(name, _)| dir.join(name)));
            }
            level = next;
        }
        self.cut_short |= !level.is_empty();
        Ok(())
    }

    /// Adds the text files of the git directory `git` that are named after refs and remotes.
    fn texts(&mut self, git: &Path, dir: PathBuf, budget: &mut Budget) -> io::Result<()> {
        let mut level = vec![dir];
        for _ in 0..DEEPEST_NAME {
            let mut next = Vec::new();
            for dir in level {
                for (name, is_dir) in self.list(&dir, budget)? {
                    let path = dir.join(name);
                    if is_dir {
                        next.push(path);
                    } else {
                        self.git_file(git, &path, Treatment::Text)?;
                    }
                }
            }
            level = next;
        }
        self.cut_short |= !level.is_empty();
        Ok(())
    }

    /// Adds a file of the git directory `git`. A link is followed only for a configuration, and
    /// only if it leads to the workspace, the caller's home or another repository.
    fn git_file(&mut self, git: &Path, path: &Path, treatment: Treatment) -> io::Result<()> {
        let Some(path) = resolved(path) else {
            return Ok(());
        };
        let is_config = matches!(treatment, Treatment::Config(_));
        let other = path.parent().unwrap_or(&path);
        if path.starts_with(git)
            || (is_config && (self.files.is_near(&path) || is_git_directory(&self.reach, other)?))
        {
            self.files.add(&path, treatment);
        }
        Ok(())
    }

    /// Lists names in a directory and whether they are directories, within the budget.
    fn list(&mut self, dir: &Path, budget: &mut Budget) -> io::Result<Vec<(OsString, bool)>> {
        let Some(dir) = resolved(dir) else {
            return Ok(Vec::new());
        };
        if budget.directories == 0 {
            self.cut_short = true;
            return Ok(Vec::new());
        }
        let names = self.reach.list(&dir, budget.names)?;
        budget.directories -= 1;
        budget.names -= names.len();
        self.cut_short |= budget.names == 0;
        Ok(names)
    }
}

/// Whether the file of a git directory is text that git wrote: `HEAD`, `FETCH_HEAD`, `MERGE_MSG`.
fn is_text(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

fn is_data(name: &str) -> bool {
    DATA.contains(&name) || DATA_BEGINS.iter().any(|begin| name.starts_with(begin))
}

#[cfg(test)]
mod tests;
