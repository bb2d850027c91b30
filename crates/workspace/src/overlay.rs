//! Mounts the overlay of the workspace inside the boundary's mount namespace.
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use egress_sys::dir::open_dir;
use egress_sys::mount::move_mount;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, mknod};

use super::store::{SHOWN, UPPER, WORK};

/// Attaches the id-mapped `tree` at `lower`, an empty directory. Mounts an overlay over it at `at`,
/// and the changes in this overlay go to `store`.
///
/// # Errors
/// Returns `EINVAL` before Linux 5.19, because older kernels do not support id-mapped layers, or if
/// the file system cannot hold an upper layer.
pub fn mount_overlay(tree: &impl AsFd, lower: &Path, store: &OwnedFd, at: &Path) -> io::Result<()> {
    move_mount(tree, lower)?;
    over(&directory(lower)?, store, at)
}

/// Mounts the same overlay as [`mount_overlay`] if `store` is inside the workspace, and hides the
/// store's `name`. The kernel rejects an upper layer that is inside a lower one. The lower layer is
/// therefore itself an overlay of the workspace and `hides`, mounted at `joined`. In `hides`, the
/// name is a whiteout. `lower`, `hides` and `joined` are empty directories. The kernel records no
/// origins of files in such an overlay, so applying changes restores a file that the host removed
/// during the run.
///
/// # Errors
/// Returns the errors of [`mount_overlay`].
pub fn mount_overlay_inside(
    tree: &impl AsFd,
    [lower, hides, joined]: [&Path; 3],
    name: &OsStr,
    store: &OwnedFd,
    at: &Path,
) -> io::Result<()> {
    move_mount(tree, lower)?;
    // A character device 0:0 is a whiteout.
    mknod(&hides.join(name), SFlag::S_IFCHR, Mode::empty(), 0)?;
    let (hides, lower) = (directory(hides)?, directory(lower)?);
    let layers = format!("lowerdir={}:{}", named(&hides), named(&lower));
    let options = format!("{layers},index=off,metacopy=off");
    overlay(joined, MsFlags::MS_RDONLY, &options)?;
    over(&directory(joined)?, store, at)
}

/// Mounts the overlay of the store's layers over `lower`.
///
/// The layer `shown` is between `lower` and the upper layer. That layer holds git's files without their credentials.
/// The command can change such a file, but none of its changes to the file is applied. Without an overlay, a read-only
/// mount covers the file instead.
fn over(lower: &OwnedFd, store: &OwnedFd, at: &Path) -> io::Result<()> {
    let [shown, upper, work] = [SHOWN, UPPER, WORK].map(|name| open_dir(store, OsStr::new(name)));
    let (shown, upper, work) = (shown?, upper?, work?);
    // Without `volatile`, unmounting would write out the whole file system. If the machine crashes
    // during the run, the command's changes are lost, and none of them has been applied yet.
    let options = format!(
        "lowerdir={}:{},upperdir={},workdir={},redirect_dir=on,index=off,metacopy=off,volatile",
        named(&shown),
        named(lower),
        named(&upper),
        named(&work)
    );
    overlay(at, MsFlags::empty(), &options)
}

/// Names a directory by descriptor, because a path may contain characters that mount options
/// interpret.
fn named(dir: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", dir.as_raw_fd())
}

fn overlay(at: &Path, flags: MsFlags, options: &str) -> io::Result<()> {
    let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("overlay"), at, Some("overlay"), flags, Some(options)).map_err(|errno| {
        io::Error::other(format!(
            "cannot mount an overlay of the workspace: {}; use --workspace direct, read-only or copy",
            errno.desc()
        ))
    })
}

fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}
