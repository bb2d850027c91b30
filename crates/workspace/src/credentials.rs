//! Shows the command files of git without the credentials in them. [`git_search`](super::git_search)
//! finds these files.
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::apply::path::RelPath;
use super::apply::tree;
use super::store::About;

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

    /// Writes it in the place of the entry `name` of `dir`, which must not be a directory.
    fn replace(&self, dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
        match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        file.write_all(&self.content)?;
        fchown(&file, Some(self.uid), Some(self.gid))?;
        file.set_permissions(Permissions::from_mode(self.mode))
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

/// Puts what is shown into `copy`, a copy of the workspace. Who can write there may have put a link into the place of
/// a file, or of a directory that holds it, before it was copied.
///
/// # Errors
/// Those of writing, and when a directory is not there any more.
pub fn put_into_copy(copy: &OwnedFd, about: &About, redactions: &[Redaction]) -> io::Result<()> {
    for one in redactions {
        if let Ok(below) = one.path.strip_prefix(&about.workspace) {
            let path = RelPath(below.as_os_str().as_bytes().to_vec());
            let (parent, name) = path.split();
            let shown = one.shown.mapped(Exchange::from(about));
            tree::beneath(copy, &parent, OFlag::O_RDONLY)
                .and_then(|dir| shown.replace(&dir, name))
                .map_err(|error| {
                    let path = one.path.display();
                    io::Error::new(error.kind(), format!("cannot hide {path}: {error}"))
                })?;
        }
    }
    Ok(())
}
