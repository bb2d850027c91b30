//! The directory beside the workspace that takes the agent's changes: `.egress-<run>`.
//!
//! For an overlay it must lie on the same mount as the workspace, since changes are applied by
//! renaming. Beside a workspace that is a mount point there is no such place, so it lies inside. The
//! command does not see it there; the host does, until the run ends.
//!
//! An agent with an outer workspace may own the directory that holds a store. Root therefore trusts no
//! name, place, owner or mode: a store is a directory with the attribute `trusted.egress.store`, which
//! only root of the machine can set. The attribute also holds what the store belongs to. The directory
//! belongs to a user that no process has, so that only root can enter it. Its supervisor holds a lock on
//! it, and a store without that lock was left by a killed run.
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

/// How the names of all such directories begin.
pub const PREFIX: &str = ".egress-";
/// The overlay's upper layer.
pub const UPPER: &str = "upper";
/// The overlay's work directory.
pub const WORK: &str = "work";
/// A layer over the workspace, below what the agent writes: files without their credentials.
pub const SHOWN: &str = "shown";
/// What applying has taken out of the workspace.
pub const MOVED: &str = "moved";
/// The copy that the agent works on, in place of an upper layer.
pub const COPY: &str = "copy";
/// The attribute of a store: empty while the store is being made, then an [`About`]. File systems that
/// cannot hold it cannot hold an upper layer either.
const MARK: &CStr = c"trusted.egress.store";

/// What a store belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The workspace's path. The attribute holds its last name, or nothing for a store in its workspace.
    pub workspace: PathBuf,
    /// The workspace's inode: another directory at the same path is not it.
    pub inode: u64,
    /// Owner of the workspace.
    pub uid: u32,
    /// Group of the workspace.
    pub gid: u32,
    /// User and group id of the run's agent.
    pub agent: u32,
    /// When the agent's view began, by the clock of the file system: seconds and nanoseconds.
    pub began: (i64, i64),
}

/// What a store is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The upper layer of an overlay.
    Layer,
    /// A copy of the workspace.
    Copy,
}

/// A store; removed when dropped, unless it is kept.
#[derive(Debug)]
pub struct Store {
    /// The directory that holds it.
    holder: OwnedFd,
    dir: OwnedFd,
    path: PathBuf,
    about: About,
    /// Whether it outlives this value.
    kept: Cell<bool>,
    /// A copy on a file system without `trusted` attributes has neither mark nor lock. It is never adopted: what a
    /// killed run leaves there stays until somebody removes it. The other modes need such attributes anyway.
    lock: Option<Flock<OwnedFd>>,
}

impl Store {
    /// Makes the store of run `id` beside `workspace`, or inside where only that is on the same mount.
    ///
    /// # Errors
    /// When the directory that holds it cannot be written, or its file system cannot hold a layer.
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
        let dir = fresh(&holder, &store, agent)?;
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
        match marked(&store.dir) {
            Ok(lock) => store.lock = Some(lock),
            Err(_) if purpose == Purpose::Copy => {}
            Err(error) => return Err(error),
        }
        for name in [UPPER, WORK, SHOWN, MOVED, COPY] {
            mkdirat(&store.dir, name, Mode::S_IRWXU)?;
        }
        let upper = store.dir(UPPER)?;
        // The overlay's root looks like the upper layer's, and that is not mapped.
        give(&upper, agent)?;
        fchmod(&upper, Mode::from_bits_truncate(meta.st_mode & 0o7777))?;
        let clock = fstat(&upper)?;
        store.about.began = (clock.st_ctime, clock.st_ctime_nsec);
        if store.lock.is_some() {
            xattr::set(&store.dir, MARK, &serde_json::to_vec(&store.about)?)?;
        }
        store.about.workspace = workspace.to_path_buf();
        // Nobody has moved it meanwhile.
        store.workspace()?;
        Ok(store)
    }

    /// Adopts the stores that killed runs of `workspace` left beside it and in it.
    ///
    /// # Errors
    /// When a directory cannot be listed, or a mark cannot be read.
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
                if let Some((dir, lock, mut about)) = abandoned(&holder, &name)?
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

    /// Lets it outlive this value: from here on somebody must carry on what it holds.
    pub fn keep(&self) {
        self.kept.set(true);
    }

    /// Lets it end with this value: nothing in it is wanted any more.
    pub fn release(&self) {
        self.kept.set(false);
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it belongs to.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Its directory.
    pub fn held(&self) -> &OwnedFd {
        &self.dir
    }

    /// The directory that holds it.
    pub fn holder(&self) -> &OwnedFd {
        &self.holder
    }

    /// One of its directories, by descriptor.
    ///
    /// # Errors
    /// Those of `openat(2)`.
    pub fn dir(&self, name: &str) -> io::Result<OwnedFd> {
        open_dir(&self.dir, OsStr::new(name))
    }

    /// A new file in it.
    ///
    /// # Errors
    /// Those of `openat(2)`.
    pub fn create_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        Ok(openat(&self.dir, name, flags, mode)?.into())
    }

    /// The workspace that it belongs to, by descriptor.
    ///
    /// # Errors
    /// When another directory has taken its place.
    pub fn workspace(&self) -> io::Result<OwnedFd> {
        let workspace = &self.about.workspace;
        let is_inside = self.path.parent() == Some(workspace);
        let name = workspace.file_name().filter(|_| !is_inside);
        let dir = open_dir(&self.holder, name.unwrap_or(OsStr::new(".")))?;
        if fstat(&dir)?.st_ino != self.about.inode {
            return Err(io::Error::other(
                "another directory has taken the workspace's place",
            ));
        }
        Ok(dir)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let (false, Some(name)) = (self.kept.get(), self.path.file_name()) {
            // What cannot be removed is found by the next run, which tries again, and does nothing else with it.
            if self.lock.is_some() {
                drop(xattr::set(&self.dir, MARK, b""));
            }
            drop(remove_tree(&self.holder, name));
        }
    }
}

/// Whether a directory of that name may be a store.
pub fn is_name(name: &OsStr) -> bool {
    let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    id.is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Makes the directory of a store and takes it from everybody. Whoever owns `holder` may have put another
/// directory in its place before it was opened, so it must be empty before it is given away, and afterwards.
fn fresh(holder: &OwnedFd, name: &str, agent: u32) -> io::Result<OwnedFd> {
    mkdirat(holder, name, Mode::S_IRWXU)?;
    let taken = || {
        let dir = open_dir(holder, OsStr::new(name))?;
        let empty = || {
            if names(&dir, 0)?.1 {
                return Ok(());
            }
            let text = format!("another process put files into {name}, which is for changes");
            Err(io::Error::other(text))
        };
        empty()?;
        give(&dir, users::nobody(agent))?;
        fchmod(&dir, Mode::S_IRWXU)?;
        empty()?;
        Ok(dir)
    };
    taken().inspect_err(|_| {
        let removed = unlinkat(holder, name, UnlinkatFlags::RemoveDir);
        drop(removed.map_err(io::Error::from));
    })
}

/// Locks a store and then marks it: whoever sees the mark of a run that is alive finds it locked.
fn marked(dir: &OwnedFd) -> io::Result<Flock<OwnedFd>> {
    let lock = locked(dir)?;
    xattr::set(dir, MARK, b"")?;
    Ok(lock)
}

fn locked(dir: &OwnedFd) -> io::Result<Flock<OwnedFd>> {
    Flock::lock(dir.try_clone()?, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| errno.into())
}

/// The store `name` of `holder`, if a run made it and no run that is alive holds it.
fn abandoned(
    holder: &OwnedFd,
    name: &OsStr,
) -> io::Result<Option<(OwnedFd, Flock<OwnedFd>, About)>> {
    // Something else, or gone since `holder` was listed.
    let Ok(dir) = open_dir(holder, name) else {
        return Ok(None);
    };
    let (Some(_), Ok(lock)) = (xattr::get(&dir, MARK), locked(&dir)) else {
        return Ok(None);
    };
    // Read again, because its run may have ended in order before the lock was taken.
    match xattr::get(&dir, MARK).unwrap_or_default().as_slice() {
        // The run was killed while it made or removed the store.
        [] => {
            drop(remove_tree(holder, name));
            Ok(None)
        }
        text => {
            let about = serde_json::from_slice(text).map_err(|error| {
                let name = name.display();
                io::Error::other(format!("the mark of {name} cannot be read: {error}"))
            })?;
            Ok(Some((dir, lock, about)))
        }
    }
}

fn give(dir: &OwnedFd, id: u32) -> nix::Result<()> {
    fchown(dir, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))
}

/// The id of the mount that `dir` lies on: one file system can be mounted at many places, and
/// nothing can be renamed from one to the other.
fn mount_id(dir: &OwnedFd) -> io::Result<String> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", dir.as_raw_fd()))?;
    info.lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))
        .map(|id| id.trim().to_owned())
        .ok_or_else(|| io::Error::other("the kernel tells no mount id"))
}
