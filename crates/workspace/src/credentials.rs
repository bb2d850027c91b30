//! Replaces files with versions that lack the credentials. [`git_search`](super::git_search) finds
//! the files to replace.
//!
//! Claims: git-tokens
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

/// A file that the command sees without its credentials.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Redaction {
    /// The path of the file.
    pub path: PathBuf,
    /// Names of the hidden keys, never their values.
    pub keys: Vec<String>,
    /// The replacement file.
    #[serde(skip)]
    pub shown: Shown,
}

/// A replacement for a file.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Shown {
    /// Content of the file.
    pub content: Vec<u8>,
    /// Owner of the file on the host.
    pub uid: u32,
    /// Group of the file on the host.
    pub gid: u32,
    /// Permissions of the file.
    pub mode: u32,
}

/// The result of a search.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Files with credentials that are hidden.
    pub redactions: Vec<Redaction>,
    /// Files with credentials that the caller wants left visible.
    pub shown: Vec<Redaction>,
    /// Whether the search ended at a limit.
    pub cut_short: bool,
}

impl Shown {
    /// Writes the file to `path`, with its owner and permissions.
    ///
    /// # Errors
    /// Fails if the file cannot be written, or if its owner or mode cannot be changed.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, &self.content)?;
        chown(path, Some(self.uid), Some(self.gid))?;
        fs::set_permissions(path, Permissions::from_mode(self.mode))
    }

    /// Replaces the entry `name` of `dir` with this file. The entry must not be a directory.
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

    /// Returns the same file with the owner that an id-mapped workspace shows.
    #[must_use]
    pub fn mapped(&self, about: Exchange) -> Self {
        Self {
            uid: about.uid(self.uid),
            gid: about.gid(self.gid),
            ..self.clone()
        }
    }
}

/// The owner and the command of a workspace. The file view exchanges their ids.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    owner: (u32, u32),
    agent: u32,
}

impl Exchange {
    /// Returns the exchange between the owner of the directory `workspace` and the user `agent`.
    ///
    /// # Errors
    /// Returns the error of `stat(2)`.
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

/// Fills `layer` with the replacement files. The layer covers the workspace in the command's
/// overlay.
///
/// # Errors
/// Fails if a file cannot be written, or if a directory cannot be created.
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

/// Puts the replacement files into `copy`, a copy of the workspace. A process with write access may have replaced a
/// file or one of its parent directories with a link before the workspace was copied.
///
/// # Errors
/// Fails if a file cannot be written, or if a directory no longer exists.
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
                    io::Error::new(
                        error.kind(),
                        format!("cannot hide the credentials in {path}: {error}"),
                    )
                })?;
        }
    }
    Ok(())
}
