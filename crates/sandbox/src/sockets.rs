//! Sockets of the host that the caller opens to the agent: each is a mount of that one file, at its
//! own path.
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

/// A socket of the host, as a mount that is nowhere yet.
#[derive(Debug)]
pub struct Opened {
    /// Where it lies, and will lie in the view.
    pub path: PathBuf,
    /// The mount.
    pub tree: OwnedFd,
    /// Which file it is.
    pub id: FileId,
    /// Whether the agent has its owner's rights on it; otherwise those of a stranger, because its
    /// file system cannot exchange the two.
    pub as_owner: bool,
}

/// Makes the mount of the socket at `path`, read-only: its name and mode stay the host's, and to
/// connect is no writing. Its owner and the agent are exchanged, where its file system can do that.
///
/// # Order
/// While this process has one thread.
///
/// # Errors
/// When `path` is no socket, or reached through a link.
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
        return Err(io::Error::other("it is no socket any more"));
    }
    if path.canonicalize()? != path {
        return Err(io::Error::other("it is reached through a link now"));
    }
    Ok(Opened {
        path: path.to_path_buf(),
        tree,
        id: (meta.dev(), meta.ino()),
        as_owner,
    })
}

/// Puts a mount of [`open`] where the agent sees it, with a way there.
///
/// # Errors
/// Those of `mkdir(2)`, `open(2)` and `move_mount(2)`.
pub fn place(view: &View, path: &Path, tree: &OwnedFd) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    view.skeleton(parent)?;
    let at = view.inside(path);
    if fs::symlink_metadata(&at).is_err() {
        File::create_new(&at)?;
    }
    move_mount(tree, &at)
}
