//! Mounts the overlay of the workspace, inside the boundary's mount namespace.
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

/// Attaches the idmapped `tree` at `lower`, an empty directory, and mounts an overlay of it at `at`,
/// whose changes go to `store`.
///
/// # Errors
/// `EINVAL` before Linux 5.19, which has no idmapped layers, and where the file system cannot be an
/// upper layer.
pub fn mount_overlay(tree: &impl AsFd, lower: &Path, store: &OwnedFd, at: &Path) -> io::Result<()> {
    move_mount(tree, lower)?;
    over(&directory(lower)?, store, at)
}

/// The same for a `store` inside the workspace, whose `name` is not there then. The kernel refuses an upper
/// layer that lies in a lower one: what is below it is an overlay itself, at `joined`, of the workspace
/// and of `hides`, where that name is nothing. All three are empty directories. The kernel notes no origins of files in
/// such an overlay, so a file that the host removed during the run is there again afterwards.
///
/// # Errors
/// As [`mount_overlay`].
pub fn mount_overlay_inside(
    tree: &impl AsFd,
    [lower, hides, joined]: [&Path; 3],
    name: &OsStr,
    store: &OwnedFd,
    at: &Path,
) -> io::Result<()> {
    move_mount(tree, lower)?;
    // A whiteout.
    mknod(&hides.join(name), SFlag::S_IFCHR, Mode::empty(), 0)?;
    let (hides, lower) = (directory(hides)?, directory(lower)?);
    let layers = format!("lowerdir={}:{}", named(&hides), named(&lower));
    let options = format!("{layers},index=off,metacopy=off");
    overlay(joined, MsFlags::MS_RDONLY, &options)?;
    over(&directory(joined)?, store, at)
}

/// Mounts the overlay of the store's layers over `lower`.
///
/// The layer `shown` lies between: git's files without their credentials. The command can change such a file, but no
/// change to it is applied. Where there is no overlay, a read-only mount covers the file instead.
fn over(lower: &OwnedFd, store: &OwnedFd, at: &Path) -> io::Result<()> {
    let [shown, upper, work] = [SHOWN, UPPER, WORK].map(|name| open_dir(store, OsStr::new(name)));
    let (shown, upper, work) = (shown?, upper?, work?);
    // Volatile: without it the end of the mount writes out the whole file system. A machine that
    // crashes during the run loses what the agent wrote, which nobody has applied yet.
    let options = format!(
        "lowerdir={}:{},upperdir={},workdir={},redirect_dir=on,index=off,metacopy=off,volatile",
        named(&shown),
        named(lower),
        named(&upper),
        named(&work)
    );
    overlay(at, MsFlags::empty(), &options)
}

/// A directory by descriptor: a path may hold what the options of a mount give a meaning to.
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
