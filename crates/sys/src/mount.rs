//! Detached mounts, id-mapped mounts, and `pivot_root`.
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use crate::raw;

/// Creates a detached copy of the mount at the file `at`, without the mounts below it.
///
/// # Errors
/// Returns the error of `open_tree(2)`.
pub fn open_tree(at: &impl AsFd) -> io::Result<OwnedFd> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let flags = clone | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(at, c"", flags)?)
}

/// Changes a detached mount: sets the `MOUNT_ATTR_*` attributes in `set` and applies the id map of
/// a user namespace.
///
/// # Errors
/// Returns `EINVAL` if the file system does not support id-mapped mounts, or `ENOSYS` before Linux 5.12.
pub fn set_attributes(tree: &impl AsFd, set: u64, idmap: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut attr = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    if let Some(map) = idmap {
        attr.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attr.userns_fd = raw::fd(&map) as u64;
    }
    let arguments = [
        raw::fd(tree),
        raw::pointer(c"".as_ptr()),
        raw::sign_extended(libc::AT_EMPTY_PATH),
        raw::pointer(&raw const attr),
        size_of_val(&attr),
    ];
    // SAFETY: with `AT_EMPTY_PATH` the empty string stands for the descriptor itself, and `attr` is a block of the
    // given size in the layout of this call.
    unsafe { raw::call(libc::SYS_mount_setattr, arguments) }.map(drop)
}

/// Attaches a detached mount at `target`.
///
/// # Errors
/// Returns the error of `move_mount(2)`.
pub fn move_mount(tree: &impl AsFd, target: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, c"", CWD, target, flags)?)
}

/// Attaches a detached mount over the file at the descriptor `target`.
///
/// # Errors
/// Returns the error of `move_mount(2)`.
pub fn cover(tree: &impl AsFd, target: &impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, c"", target, c"", flags)?)
}

/// Makes `root` the root directory, and detaches the old root with all its mounts.
///
/// # Errors
/// Returns the error of `pivot_root(2)`, `umount2(2)`, or `chdir(2)`.
pub fn pivot_into(root: &Path) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    // The old root is mounted on top of the new root, so the next call detaches the old root (pivot_root(2), NOTES).
    nix::unistd::pivot_root(".", ".")?;
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")
}
