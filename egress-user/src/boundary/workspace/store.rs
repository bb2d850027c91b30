//! The directory beside the workspace that takes the agent's changes: `.egress-<run>`, root's alone.
//!
//! For an overlay it must lie on the same mount as the workspace, since changes are applied by
//! renaming: beside a workspace that is a mount point there is no such place, so it lies inside, and the
//! agent does not see it. A killed run leaves it; whoever holds its lock is alive, and nobody else
//! touches it then. An attribute that no agent can set tells it from a forgery.
use std::cell::Cell;
use std::ffi::{CStr, OsStr};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use super::clear::remove_tree;
use crate::sys::xattr;

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
/// What is on a store whose list of changes may be carried on. File systems that cannot hold it cannot
/// hold an upper layer either.
const MARK: &CStr = c"trusted.egress.store";
const LOCK: &str = "lock";
const ABOUT: &str = "run.json";
/// A store without its description that is older than this belongs to nobody.
const UNFINISHED: Duration = Duration::from_mins(1);

/// What a store belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The workspace's path.
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
    path: PathBuf,
    about: About,
    /// Whether a run made it, and not a program that the run held.
    marked: bool,
    /// Whether it outlives this value.
    kept: Cell<bool>,
    _lock: Flock<File>,
}

impl Store {
    /// Makes the store of run `id` beside `workspace`, or inside where only that is on the same mount.
    ///
    /// # Errors
    /// When the directory that holds it cannot be written, or its file system cannot hold a layer.
    pub fn create(workspace: &Path, id: &str, agent: u32, purpose: Purpose) -> io::Result<Self> {
        let parent = workspace
            .parent()
            .ok_or_else(|| io::Error::other("the workspace has no parent directory"))?;
        let inside = purpose == Purpose::Layer && mount_id(workspace)? != mount_id(parent)?;
        let path = if inside { workspace } else { parent }.join(format!("{PREFIX}{id}"));
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = locked(&path)?;
        if purpose == Purpose::Layer {
            xattr::set(&directory(&path)?, MARK, id.as_bytes())?;
        }
        for name in [UPPER, WORK, SHOWN, MOVED, COPY] {
            DirBuilder::new().mode(0o700).create(path.join(name))?;
        }
        let meta = workspace.metadata()?;
        let upper = path.join(UPPER);
        // The overlay's root looks like the upper layer's, and that is not mapped.
        chown(&upper, Some(agent), Some(agent))?;
        fs::set_permissions(&upper, Permissions::from_mode(meta.mode() & 0o7777))?;
        let clock = upper.metadata()?;
        let about = About {
            workspace: workspace.to_path_buf(),
            inode: meta.ino(),
            uid: meta.uid(),
            gid: meta.gid(),
            agent,
            began: (clock.ctime(), clock.ctime_nsec()),
        };
        let store = Self {
            path,
            about,
            marked: purpose == Purpose::Layer,
            kept: Cell::new(false),
            _lock: lock,
        };
        if inside {
            // Where root owns the workspace, the agent is root to the files of an idmapped mount: those
            // of later runs as well, which it sees.
            chown(&store.path, Some(agent), Some(agent))?;
        }
        fs::write(store.path.join(ABOUT), serde_json::to_vec(&store.about)?)?;
        Ok(store)
    }

    /// Opens a store that a killed run left at `path`. `None` when its run is alive, when it is neither
    /// marked nor root's alone, or when it belongs to no workspace that is still there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn adopt(path: &Path) -> io::Result<Option<Self>> {
        let meta = fs::symlink_metadata(path)?;
        if !meta.is_dir() || meta.mode() & 0o077 != 0 {
            return Ok(None);
        }
        let marked = xattr::get(&directory(path)?, MARK).is_some();
        if !marked && meta.uid() != 0 {
            return Ok(None);
        }
        let Ok(lock) = locked(path) else {
            return Ok(None);
        };
        let Ok(text) = fs::read(path.join(ABOUT)) else {
            // Its run was killed before anything could be written to it; or is not that far yet.
            let age = meta.modified().ok().and_then(|made| made.elapsed().ok());
            if age.is_some_and(|age| age > UNFINISHED) {
                remove_tree(path)?;
            }
            return Ok(None);
        };
        let about: About = match serde_json::from_slice(&text) {
            Ok(about) => about,
            Err(error) if marked => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        let there = fs::symlink_metadata(&about.workspace)
            .is_ok_and(|meta| meta.is_dir() && meta.ino() == about.inode);
        let near = [about.workspace.parent(), Some(&about.workspace)].contains(&path.parent());
        Ok((there && near).then(|| Self {
            path: path.to_path_buf(),
            about,
            marked,
            kept: Cell::new(true),
            _lock: lock,
        }))
    }

    /// Stores beside `workspace` and in it, whosever they are.
    ///
    /// # Errors
    /// When one of the directories cannot be listed.
    pub fn near(workspace: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for dir in workspace.parent().into_iter().chain([workspace]) {
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                if is_name(&entry.file_name()) {
                    found.push(entry.path());
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Whether a run made it, and its list of changes may be carried on.
    pub fn is_marked(&self) -> bool {
        self.marked
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

    /// One of its directories, by descriptor.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn dir(&self, name: &str) -> io::Result<OwnedFd> {
        directory(&self.path.join(name))
    }

    /// The workspace that it belongs to, by descriptor.
    ///
    /// # Errors
    /// When another directory has taken its place.
    pub fn workspace(&self) -> io::Result<OwnedFd> {
        let dir = directory(&self.about.workspace)?;
        if nix::sys::stat::fstat(&dir)?.st_ino != self.about.inode {
            return Err(io::Error::other(
                "another directory has taken the workspace's place",
            ));
        }
        Ok(dir)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if !self.kept.get() {
            // What cannot be removed is found by the next run, which tries again.
            drop(remove_tree(&self.path));
        }
    }
}

/// Whether a directory of that name may be a store.
pub fn is_name(name: &OsStr) -> bool {
    let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    id.is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn locked(store: &Path) -> io::Result<Flock<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(store.join(LOCK))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

/// The id of the mount that `path` lies on: one file system can be mounted at many places, and
/// nothing can be renamed from one to the other.
fn mount_id(path: &Path) -> io::Result<String> {
    let dir = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", dir.as_raw_fd()))?;
    info.lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))
        .map(|id| id.trim().to_owned())
        .ok_or_else(|| io::Error::other("the kernel tells no mount id"))
}
