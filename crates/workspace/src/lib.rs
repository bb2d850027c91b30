//! Provides the workspace to the command: an id-mapped bind mount of the caller's directory, or an overlay with this
//! mount as its lower layer. The mount exchanges the ids of the directory's owner and of the command, so that the
//! command owns the owner's files.
pub mod apply;
pub mod clear;
pub mod credentials;
pub mod git_config;
pub mod git_directory;
pub mod git_files;
pub mod git_redact;
pub mod git_search;
pub mod git_values;
pub mod known_files;
pub mod known_search;
pub mod overlay;
pub mod reach;
pub mod secret_text;
pub mod store;
pub mod users;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use egress_sys::dir;
use egress_sys::mount::{open_tree, set_attributes};
use egress_sys::process;
use nix::sched::CloneFlags;
use nix::sys::stat::fstat;

/// Whether the command may write through a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The command may write, with the rights of the owner.
    ReadWrite,
    /// The command cannot write. This is used for `--workspace read-only` and for the lower layer
    /// of an overlay.
    ReadOnly,
}

/// Creates the detached id-mapped mount of the workspace with `nosuid` and `nodev`. Writes through
/// this mount go to the host's files.
///
/// # Order
/// Call this while the process has one thread, because the function forks to create the user
/// namespace with the id map.
///
/// # Errors
/// Returns `EINVAL` if the file system does not support id-mapped mounts (overlay, NFS) or the
/// kernel is older than 5.12.
pub fn mapped(path: &Path, agent: u32, access: Access) -> io::Result<OwnedFd> {
    let at = dir::find(path)?;
    let owner = fstat(&at)?;
    let users = id_map(owner.st_uid, agent);
    let groups = id_map(owner.st_gid, agent);
    let map = user_namespace(&users, &groups)?;
    let tree = open_tree(&at)?;
    let mut set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if access == Access::ReadOnly {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    set_attributes(&tree, set, Some(map.as_fd()))?;
    Ok(tree)
}

/// Creates the detached mount of a directory with `nosuid` and `nodev`, without an id map.
///
/// # Errors
/// Returns the error of `open_tree(2)` or `mount_setattr(2)`.
pub fn plain(dir: &OwnedFd) -> io::Result<OwnedFd> {
    let tree = open_tree(dir)?;
    let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    set_attributes(&tree, set, None)?;
    Ok(tree)
}

/// Maps every id to itself, except two ids. These two are exchanged (`user_namespaces(7)`,
/// `uid_map`).
fn id_map(one: u32, other: u32) -> String {
    let (low, high) = (one.min(other), one.max(other));
    let mut map = Vec::new();
    let mut line = |inside: u32, outside: u32, count: u32| {
        if count > 0 {
            map.push(format!("{inside} {outside} {count}\n"));
        }
    };
    line(0, 0, low);
    if low == high {
        line(low, low, 1);
    } else {
        line(low, high, 1);
        line(low + 1, low + 1, high - low - 1);
        line(high, low, 1);
    }
    // The last number, 2^32-1, is not an id.
    line(high + 1, high + 1, u32::MAX - high - 1);
    map.concat()
}

/// Creates a user namespace with these maps. The process that created the namespace has ended when
/// this function returns.
fn user_namespace(users: &str, groups: &str) -> io::Result<OwnedFd> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (hold, release) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let Some(child) = process::fork()? else {
        drop(release);
        let made = nix::sched::unshare(CloneFlags::CLONE_NEWUSER).is_ok();
        let is_ready = made && nix::unistd::write(&writer, b"x").is_ok();
        // The child lives until the parent has opened the namespace or has ended.
        let is_released = is_ready && nix::unistd::read(&hold, &mut [0]).is_ok();
        process::exit_now(i32::from(!is_released));
    };
    drop(writer);
    drop(hold);
    let outcome = map_and_open(child.as_raw(), &reader, users, groups);
    drop(release);
    nix::sys::wait::waitpid(child, None)?;
    outcome
}

fn map_and_open(child: i32, ready: &OwnedFd, users: &str, groups: &str) -> io::Result<OwnedFd> {
    if nix::unistd::read(ready, &mut [0])? != 1 {
        return Err(io::Error::other(
            "cannot create a user namespace for the workspace's id map",
        ));
    }
    std::fs::write(format!("/proc/{child}/uid_map"), users)?;
    std::fs::write(format!("/proc/{child}/gid_map"), groups)?;
    Ok(std::fs::File::open(format!("/proc/{child}/ns/user"))?.into())
}

#[cfg(test)]
mod tests {
    use super::id_map;

    /// Claims: owners-exchanged, crate-workspace
    #[test]
    fn the_map_is_a_bijection_on_all_ids_that_exchanges_two() {
        for (one, other) in [
            (0, 1_879_048_192),
            (1000, 1_879_048_196),
            (5, 5),
            (7, 8),
            (9, 3),
        ] {
            let mut next = 0_u64;
            let mut outside = Vec::new();
            for line in id_map(one, other).lines() {
                let numbers: Vec<u64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
                let [inside, out, count] = numbers[..] else {
                    panic!("{line}")
                };
                assert_eq!(inside, next, "{one} {other}");
                next = inside + count;
                outside.push((out, count));
                if count == 1 && (inside == u64::from(one) || inside == u64::from(other)) {
                    assert_eq!(inside + out, u64::from(one) + u64::from(other));
                }
            }
            assert_eq!(next, u64::from(u32::MAX));
            outside.sort_unstable();
            let covered = outside.iter().fold(0, |end, (start, count)| {
                assert_eq!(*start, end);
                start + count
            });
            assert_eq!(covered, u64::from(u32::MAX));
        }
    }
}
