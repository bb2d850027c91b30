//! The store: the directory `.egress-<run>` beside the workspace that receives the command's changes.
//!
//! For an overlay, the store must be on the same mount as the workspace, because changes are
//! applied by renaming. A workspace that is a mount point has no such place beside it, so the store
//! is inside the workspace. The command does not see the store there. The host sees the store until
//! the run ends.
//!
//! The command of a run in an outer workspace may own the parent directory of a store. Root therefore does not trust
//! the store's name, place, owner or mode. A store is a directory with the attribute `trusted.egress.store`. Only root
//! in the initial user namespace can set this attribute. The attribute also records an [`About`]. The store belongs to
//! a user that no process has, so that only root can enter it. The supervisor of the run holds a lock on the store. A
//! killed run leaves its store behind without the lock.
//!
//! Claims: read-stores
use std::cell::Cell;
use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use egress_sys::dir::{hold, list, names, open_dir};
use egress_sys::xattr;
use nix::fcntl::{Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use serde::{Deserialize, Serialize};

use super::clear::remove_tree;
use crate::users;

/// Prefix of the name of every store.
pub const PREFIX: &str = ".egress-";
/// The overlay's upper layer.
pub const UPPER: &str = "upper";
/// The overlay's work directory.
pub const WORK: &str = "work";
/// A layer between the workspace and the command's changes. It holds git's files without their
/// credentials.
pub const SHOWN: &str = "shown";
/// Entries that were taken out of the workspace while changes were applied.
pub const MOVED: &str = "moved";
/// The copy that the command works on, if there is no upper layer.
pub const COPY: &str = "copy";
/// The attribute of a store: empty while the store is being created, then an [`About`]. A file
/// system without this attribute cannot hold an upper layer either.
const MARK: &CStr = c"trusted.egress.store";

/// The workspace and the run that a store belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The workspace's path. The attribute holds only the last name of this path, or nothing for a
    /// store inside its workspace.
    pub workspace: PathBuf,
    /// The workspace's inode. The inode distinguishes the workspace from a later directory at the
    /// same path.
    pub inode: u64,
    /// User id of the workspace's owner.
    pub uid: u32,
    /// Group id of the workspace.
    pub gid: u32,
    /// User and group id of the run's command.
    pub agent: u32,
    /// When the file view was created, by the clock of the file system: seconds and nanoseconds.
    pub began: (i64, i64),
}

/// The purpose of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The store holds the upper layer of an overlay.
    Layer,
    /// The store holds a copy of the workspace.
    Copy,
}

/// A store of one run. Dropping this value removes the store, unless it is kept.
#[derive(Debug)]
pub struct Store {
    /// The parent directory of the store.
    holder: OwnedFd,
    dir: OwnedFd,
    path: PathBuf,
    about: About,
    /// Whether the store outlives this value.
    kept: Cell<bool>,
    /// The lock of the store. A copy on a file system without `trusted` attributes has neither mark nor lock and is
    /// never adopted. If the run is killed, the copy stays until a user removes it. All other values of `--workspace`
    /// require these attributes.
    lock: Option<Flock<OwnedFd>>,
}

impl Store {
    /// Creates the store of run `id` beside `workspace`, or inside it if only the inside is on the
    /// same mount.
    ///
    /// # Errors
    /// Fails if its parent directory cannot be written or the file system cannot hold an upper
    /// layer.
    pub fn create(workspace: &Path, id: &str, agent: u32, purpose: Purpose) -> io::Result<Self> {
        let root = hold(workspace)?;
        let meta = fstat(&root)?;
        let above = open_dir(&root, OsStr::new(".."))?;
        let (parent, name) = workspace
            .parent()
            .zip(workspace.file_name())
            .ok_or_else(|| io::Error::other("the workspace has no parent directory"))?;
        let inside = purpose == Purpose::Layer && mount_id(&root)? != mount_id(&above)?;
        let (holder, at, below) = if inside {
            (root, workspace, "".as_ref())
        } else {
            (above, parent, name)
        };
        let store = format!("{PREFIX}{id}");
        let dir = create_empty(&holder, &store, agent)?;
        let mut store = Self {
            holder,
            dir,
            path: at.join(store),
            about: About {
                workspace: PathBuf::from(below),
                inode: meta.st_ino,
                uid: meta.st_uid,
                gid: meta.st_gid,
                agent,
                began: (0, 0),
            },
            kept: Cell::new(false),
            lock: None,
        };
        match lock_and_mark(&store.dir) {
            Ok(lock) => store.lock = Some(lock),
            Err(_) if purpose == Purpose::Copy => {}
            Err(error) => return Err(error),
        }
        for name in [UPPER, WORK, SHOWN, MOVED, COPY] {
            mkdirat(&store.dir, name, Mode::S_IRWXU)?;
        }
        let upper = store.dir(UPPER)?;
        // The root of the overlay has the owner and mode of the upper layer, and the upper layer is
        // not id-mapped.
        set_owner(&upper, agent)?;
        fchmod(&upper, Mode::from_bits_truncate(meta.st_mode & 0o7777))?;
        let clock = fstat(&upper)?;
        store.about.began = (clock.st_ctime, clock.st_ctime_nsec);
        if store.lock.is_some() {
            xattr::set(&store.dir, MARK, &serde_json::to_vec(&store.about)?)?;
        }
        store.about.workspace = workspace.to_path_buf();
        // Checks that the workspace has not been moved since.
        store.workspace()?;
        Ok(store)
    }

    /// Adopts the stores that killed runs of `workspace` left beside it and inside it.
    ///
    /// # Errors
    /// Fails if a directory cannot be listed or a mark cannot be read.
    pub fn left_behind(workspace: &Path) -> io::Result<Vec<Self>> {
        let root = hold(workspace)?;
        let inode = fstat(&root)?.st_ino;
        let mut places = vec![(open_dir(&root, OsStr::new("."))?, workspace, OsStr::new(""))];
        if let (Some(parent), Some(name)) = (workspace.parent(), workspace.file_name()) {
            places.push((open_dir(&root, OsStr::new(".."))?, parent, name));
        }
        let mut found = Vec::new();
        for (holder, at, below) in places {
            for name in list(&holder)?.into_iter().filter(|name| is_name(name)) {
                if let Some((dir, lock, mut about)) = open_abandoned(&holder, &name)?
                    && about.workspace == Path::new(below)
                    && about.inode == inode
                {
                    about.workspace = workspace.to_path_buf();
                    found.push(Self {
                        holder: holder.try_clone()?,
                        dir,
                        path: at.join(name),
                        about,
                        kept: Cell::new(true),
                        lock: Some(lock),
                    });
                }
            }
        }
        Ok(found)
    }

    /// Keeps the store when this value is dropped. A later run must still process its content.
    pub fn keep(&self) {
        self.kept.set(true);
    }

    /// Removes the store when this value is dropped, because its content is no longer needed.
    pub fn release(&self) {
        self.kept.set(false);
    }

    /// Returns the path of the store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the workspace and the run that the store belongs to.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Returns the directory of the store.
    pub fn held(&self) -> &OwnedFd {
        &self.dir
    }

    /// Returns the parent directory of the store.
    pub fn holder(&self) -> &OwnedFd {
        &self.holder
    }

    /// Opens one of the store's directories.
    ///
    /// # Errors
    /// Returns the error of `openat(2)`.
    pub fn dir(&self, name: &str) -> io::Result<OwnedFd> {
        open_dir(&self.dir, OsStr::new(name))
    }

    /// Creates a new file in the store.
    ///
    /// # Errors
    /// Returns the error of `openat(2)`.
    pub fn create_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        Ok(openat(&self.dir, name, flags, mode)?.into())
    }

    /// Opens the workspace of the store.
    ///
    /// # Errors
    /// Fails if the workspace was replaced by another directory.
    pub fn workspace(&self) -> io::Result<OwnedFd> {
        let workspace = &self.about.workspace;
        let is_inside = self.path.parent() == Some(workspace);
        let name = workspace.file_name().filter(|_| !is_inside);
        let dir = open_dir(&self.holder, name.unwrap_or(OsStr::new(".")))?;
        if fstat(&dir)?.st_ino != self.about.inode {
            return Err(io::Error::other(
                "the workspace was replaced by another directory",
            ));
        }
        Ok(dir)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let (false, Some(name)) = (self.kept.get(), self.path.file_name()) {
            // If removal fails, the next run finds the store and removes it, but does not use it
            // for anything else.
            if self.lock.is_some() {
                drop(xattr::set(&self.dir, MARK, b""));
            }
            drop(remove_tree(&self.holder, name));
        }
    }
}

/// Whether a directory with this name may be a store.
pub fn is_name(name: &OsStr) -> bool {
    let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    id.is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Creates the directory of a store and removes all access to it. The owner of `holder` may have
/// replaced the directory before it was opened. The directory must therefore be empty both before
/// and after its owner is changed.
fn create_empty(holder: &OwnedFd, name: &str, agent: u32) -> io::Result<OwnedFd> {
    mkdirat(holder, name, Mode::S_IRWXU)?;
    let taken = || {
        let dir = open_dir(holder, OsStr::new(name))?;
        let empty = || {
            if names(&dir, 0)?.1 {
                return Ok(());
            }
            let text = format!(
                "another process put files into {name}, the new directory for the command's changes; start the run again"
            );
            Err(io::Error::other(text))
        };
        empty()?;
        set_owner(&dir, users::nobody(agent))?;
        fchmod(&dir, Mode::S_IRWXU)?;
        empty()?;
        Ok(dir)
    };
    taken().inspect_err(|_| {
        let removed = unlinkat(holder, name, UnlinkatFlags::RemoveDir);
        drop(removed.map_err(io::Error::from));
    })
}

/// Locks a store and then marks it, so that the marked store of a live run is always locked.
fn lock_and_mark(dir: &OwnedFd) -> io::Result<Flock<OwnedFd>> {
    let lock = try_lock(dir)?;
    xattr::set(dir, MARK, b"")?;
    Ok(lock)
}

fn try_lock(dir: &OwnedFd) -> io::Result<Flock<OwnedFd>> {
    Flock::lock(dir.try_clone()?, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| errno.into())
}

/// Opens the store `name` in `holder`, if a run created it and no live run holds its lock.
fn open_abandoned(
    holder: &OwnedFd,
    name: &OsStr,
) -> io::Result<Option<(OwnedFd, Flock<OwnedFd>, About)>> {
    // The name belongs to something else, or the directory disappeared after `holder` was listed.
    let Ok(dir) = open_dir(holder, name) else {
        return Ok(None);
    };
    let (Some(_), Ok(lock)) = (xattr::get(&dir, MARK), try_lock(&dir)) else {
        return Ok(None);
    };
    // Read the mark again, because the store's run may have ended normally before the lock was
    // taken.
    match xattr::get(&dir, MARK).unwrap_or_default().as_slice() {
        // The run was killed while it created or removed the store.
        [] => {
            drop(remove_tree(holder, name));
            Ok(None)
        }
        text => {
            let about = serde_json::from_slice(text).map_err(|error| {
                let name = name.display();
                io::Error::other(format!(
                    "cannot parse the attribute trusted.egress.store of {name}: {error}"
                ))
            })?;
            Ok(Some((dir, lock, about)))
        }
    }
}

fn set_owner(dir: &OwnedFd, id: u32) -> nix::Result<()> {
    fchown(dir, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))
}

/// Returns the id of the mount of `dir`. A file system can be mounted at several places, but
/// nothing can be renamed from one mount to another.
fn mount_id(dir: &OwnedFd) -> io::Result<String> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", dir.as_raw_fd()))?;
    info.lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))
        .map(|id| id.trim().to_owned())
        .ok_or_else(|| io::Error::other("the kernel reports no mount id"))
}
