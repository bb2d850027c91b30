//! Accesses directories by descriptor, without following links.
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
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

/// Reads the metadata of the entry `name` of `dir` without following a link. Returns `None` if the
/// entry does not exist.
///
/// # Errors
/// Returns the error of `fstatat(2)`.
pub fn stat(dir: &impl AsFd, name: &OsStr) -> io::Result<Option<FileStat>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens the regular file `name` of `dir`. The file must not be a link.
///
/// # Errors
/// Returns the error of `openat(2)`, or "not a regular file" for any other file type.
pub fn open_file(dir: &impl AsFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(dir, name, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

/// Opens the directory at `path` below `root`, without any link, mount or `..` on the path. `flags`
/// state whether the directory can be read (`O_RDONLY`) or only used for lookups (`O_PATH`).
///
/// # Errors
/// Returns the error of `openat2(2)`; `ELOOP` means a link and `EXDEV` a mount.
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

/// Reads a file to its end, unless it is longer than `most` bytes.
///
/// # Errors
/// Returns the error of `read(2)`.
pub fn read_short(file: File, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= most);
    Ok(fits.then_some(bytes))
}

/// Returns the kind of an entry, from its mode.
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

/// Returns the time of an entry's last change of any kind, including renames and permissions. No
/// program can set this time.
pub fn changed_at(stat: &FileStat) -> (i64, i64) {
    (stat.st_ctime, stat.st_ctime_nsec)
}

/// Moves a time of the file system back by `by`.
pub fn earlier((seconds, nanoseconds): (i64, i64), by: Duration) -> (i64, i64) {
    let back = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    let rest = nanoseconds.saturating_sub(i64::from(by.subsec_nanos()));
    let borrowed = i64::from(rest < 0);
    (
        seconds.saturating_sub(back).saturating_sub(borrowed),
        rest.saturating_add(borrowed.saturating_mul(NANOSECONDS)),
    )
}

/// The identity of an entry, to check that the entry is still the judged one. The identity does not
/// include the ctime, because renaming changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    inode: u64,
    /// Modification time and size. `None` for a directory, because a change to its entries changes
    /// both values.
    content: Option<(i64, i64, i64)>,
}

impl Identity {
    /// Reads the identity from an entry's metadata.
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
