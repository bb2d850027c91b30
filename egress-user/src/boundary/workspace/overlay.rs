//! Mounts the overlay of the workspace, inside the boundary's mount namespace.
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use super::store::{SHOWN, UPPER, WORK};
use crate::sys::mount::move_mount;

/// Attaches the idmapped `tree` at `lower`, an empty directory, and mounts an overlay of it at `at`,
/// whose changes go to `store`.
///
/// # Errors
/// `EINVAL` before Linux 5.19, which has no idmapped layers, and where the file system cannot be an
/// upper layer.
pub fn mount_overlay(tree: &impl AsFd, lower: &Path, store: &Path, at: &Path) -> io::Result<()> {
    move_mount(tree, lower)?;
    // By descriptor: a path may hold what the options of a mount give a meaning to.
    let lower = directory(lower)?;
    let shown = directory(&store.join(SHOWN))?;
    let upper = directory(&store.join(UPPER))?;
    let work = directory(&store.join(WORK))?;
    let named = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    // Volatile: without it the end of the mount writes out the whole file system. A machine that
    // crashes during the run loses what the agent wrote, which nobody has applied yet.
    let options = format!(
        "lowerdir={}:{},upperdir={},workdir={},redirect_dir=on,index=off,metacopy=off,volatile",
        named(&shown),
        named(&lower),
        named(&upper),
        named(&work)
    );
    mount(
        Some("overlay"),
        at,
        Some("overlay"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(options.as_str()),
    )
    .map_err(|errno| {
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
