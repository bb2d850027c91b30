//! Directories by descriptor: no path is ever followed through a link.
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use serde::{Deserialize, Serialize};

use super::judge::Kind;
use super::path::RelPath;
pub use egress_sys::dir::{list, open_dir};

const NANOSECONDS: i64 = 1_000_000_000;

/// The entry `name` of `dir` itself; none if there is nothing of that name.
///
/// # Errors
/// Those of `fstatat(2)`.
pub fn stat(dir: &impl AsFd, name: &OsStr) -> io::Result<Option<FileStat>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens the regular file `name` of `dir`, which must not be a link.
///
/// # Errors
/// Those of `openat(2)`, and when it is something else.
pub fn open_file(dir: &impl AsFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(dir, name, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

/// Opens the directory at `path` below `root`: no link, no mount and no `..` on the way. `flags` tell
/// whether it is to be read (`O_RDONLY`) or only to be a place (`O_PATH`).
///
/// # Errors
/// Those of `openat2(2)`; `ELOOP` for a link, `EXDEV` for a mount.
pub fn beneath(root: &impl AsFd, path: &RelPath, flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    Ok(openat2(root, path.as_os_str(), how)?)
}

/// What an entry is.
pub fn kind(stat: &FileStat) -> Kind {
    match SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) {
        SFlag::S_IFDIR => Kind::Directory,
        SFlag::S_IFREG => Kind::File,
        SFlag::S_IFLNK => Kind::Symlink,
        SFlag::S_IFIFO => Kind::Fifo,
        SFlag::S_IFSOCK => Kind::Socket,
        _ => Kind::Device,
    }
}

/// When an entry changed last in any way, renames and permissions included. No program can set it.
pub fn changed_at(stat: &FileStat) -> (i64, i64) {
    (stat.st_ctime, stat.st_ctime_nsec)
}

/// A time of the file system, `by` earlier.
pub fn earlier((seconds, nanoseconds): (i64, i64), by: Duration) -> (i64, i64) {
    let back = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    let rest = nanoseconds.saturating_sub(i64::from(by.subsec_nanos()));
    let borrowed = i64::from(rest < 0);
    (
        seconds.saturating_sub(back).saturating_sub(borrowed),
        rest.saturating_add(borrowed.saturating_mul(NANOSECONDS)),
    )
}

/// What tells whether an entry is still the one that was judged. The time of its last change is no
/// part of it: renaming alters that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    inode: u64,
    /// Time of the last modification and size; of a directory they change with its entries.
    content: Option<(i64, i64, i64)>,
}

impl Identity {
    /// Takes it.
    pub fn of(stat: &FileStat) -> Self {
        let content = (kind(stat) != Kind::Directory).then_some((
            stat.st_mtime,
            stat.st_mtime_nsec,
            stat.st_size,
        ));
        Self {
            inode: stat.st_ino,
            content,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_back_by_seconds_and_parts_of_them() {
        let at = (100, 5);
        assert_eq!(earlier(at, Duration::ZERO), at);
        assert_eq!(earlier(at, Duration::from_hours(1)), (-3500, 5));
        assert_eq!(earlier(at, Duration::from_nanos(5)), (100, 0));
        assert_eq!(
            earlier(at, Duration::from_nanos(1_000_000_006)),
            (98, NANOSECONDS - 1)
        );
    }
}
