//! Makes host sockets available to the command at the caller's request. Each socket is mounted as a
//! single file at its own path.
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use egress_sys::dir;
use egress_sys::mount::{move_mount, open_tree, set_attributes};
use egress_workspace::Access;

use super::view::View;

/// Device and inode of a file.
pub type FileId = (u64, u64);

/// A socket of the host, opened as a detached mount.
#[derive(Debug)]
pub struct Opened {
    /// The path of the socket on the host and in the file view.
    pub path: PathBuf,
    /// The detached mount.
    pub tree: OwnedFd,
    /// The identity of the file.
    pub id: FileId,
    /// Whether the command has the owner's rights on the socket. If not, the command has the rights
    /// of any other user, because the file system does not support id-mapped mounts.
    pub as_owner: bool,
}

/// Creates a read-only mount of the socket at `path`. Connecting through the mount does not count
/// as writing. The socket's name and mode on the host cannot be changed through the mount. The ids
/// of the socket's owner and of the command are exchanged if the file system supports this.
///
/// # Order
/// Call this while the process has one thread.
///
/// # Errors
/// Fails if `path` is not a socket or is reached through a symbolic link. The error contains the
/// path.
pub fn open(path: &Path, agent: u32) -> io::Result<Opened> {
    mounted(path, agent)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn mounted(path: &Path, agent: u32) -> io::Result<Opened> {
    let (tree, as_owner) = match egress_workspace::mapped(path, agent, Access::ReadOnly) {
        Ok(tree) => (tree, true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let tree = open_tree(&dir::find(path)?)?;
            let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_RDONLY;
            set_attributes(&tree, set, None)?;
            (tree, false)
        }
        Err(error) => return Err(error),
    };
    let meta = File::from(tree.as_fd().try_clone_to_owned()?).metadata()?;
    if !meta.file_type().is_socket() {
        return Err(io::Error::other("the file is no longer a socket"));
    }
    if path.canonicalize()? != path {
        return Err(io::Error::other("the path now contains a symbolic link"));
    }
    Ok(Opened {
        path: path.to_path_buf(),
        tree,
        id: (meta.dev(), meta.ino()),
        as_owner,
    })
}

/// Mounts `tree`, which [`open`] returned, at `path` in the file view. Creates the directories on the way.
///
/// # Errors
/// Returns the error of `mkdir(2)`, `open(2)`, or `move_mount(2)`.
pub fn place(view: &View, path: &Path, tree: &OwnedFd) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    view.skeleton(parent)?;
    let at = view.inside(path);
    if fs::symlink_metadata(&at).is_err() {
        File::create_new(&at)?;
    }
    move_mount(tree, &at)
}
