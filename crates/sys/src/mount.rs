//! Mount calls that have no safe wrapper: detached trees, idmapped mounts, `pivot_root`.
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A detached copy of the mount at the file `at`: that one mount alone, without what is mounted below it.
///
/// # Errors
/// Those of `open_tree(2)`.
pub fn open_tree(at: &impl AsFd) -> io::Result<OwnedFd> {
    let empty = u32::try_from(libc::AT_EMPTY_PATH).unwrap_or_default();
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | empty;
    // SAFETY: an empty path with AT_EMPTY_PATH names the descriptor itself; the rest are integers.
    let fd = checked(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            at.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    })?;
    // SAFETY: the call just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) })
}

/// Attribute changes of a detached mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes<'a> {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// User namespace whose id map the mount takes.
    pub idmap: Option<BorrowedFd<'a>>,
}

/// Changes a detached mount.
///
/// # Errors
/// `EINVAL` where the file system does not support idmapped mounts, or before Linux 5.12.
pub fn set_attributes(tree: &impl AsFd, attributes: Attributes<'_>) -> io::Result<()> {
    let mut set = attributes.set;
    let mut userns = 0;
    if let Some(map) = attributes.idmap {
        set |= libc::MOUNT_ATTR_IDMAP;
        userns = u64::try_from(map.as_raw_fd()).unwrap_or_default();
    }
    let attr = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: userns,
    };
    // SAFETY: an empty path with AT_EMPTY_PATH names the descriptor itself; `attr` is a valid block
    // of the size given.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// Attaches a detached mount at `target`.
///
/// # Errors
/// Those of `move_mount(2)`.
pub fn move_mount(tree: &impl AsFd, target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    // SAFETY: two valid directory descriptors with NUL-terminated paths and integer flags.
    checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    Ok(())
}

/// Makes `root` the root directory and drops the old one with all its mounts.
///
/// # Errors
/// Those of `pivot_root(2)`, `umount2(2)` and `chdir(2)`.
pub fn pivot_into(root: &Path) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    // The old root lands on top of the new one, from where it is detached (pivot_root(2), NOTES).
    nix::unistd::pivot_root(".", ".")?;
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")
}
