//! Accesses directories by descriptor, without following links.
//!
//! Claims: read-directories
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;

/// Opens the directory `name` of `dir`. The directory must not be a link.
///
/// # Errors
/// Returns the error of `openat(2)`.
pub fn open_dir(dir: &impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

/// Opens the directory `path`. The path had no links when it was resolved, but the owner of one of
/// its directories may have added a link since.
///
/// # Errors
/// Returns the error of `openat2(2)`; `ELOOP` means that the path contains a link.
pub fn hold(path: &Path) -> io::Result<OwnedFd> {
    without_links(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}

/// Finds `path` without following links, and returns an `O_PATH` descriptor, with which the file cannot be read.
///
/// # Errors
/// Returns the error of `openat2(2)`; `ELOOP` means that the path contains a link.
pub fn find(path: &Path) -> io::Result<OwnedFd> {
    without_links(path, OFlag::O_PATH)
}

fn without_links(path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(openat2(AT_FDCWD, path, how)?)
}

/// The maximum memory for the names of one directory, in bytes: enough for millions of short names. A command may
/// create as many names as its file system has room for.
const LONGEST_LIST: usize = 512 << 20;

/// Lists the names in a directory, sorted by their bytes.
///
/// # Errors
/// Returns the error of `getdents(2)`. Also fails if the names exceed the memory limit.
pub fn list(dir: &impl AsFd) -> io::Result<Vec<OsString>> {
    match names(dir, LONGEST_LIST)? {
        (names, true) => Ok(names),
        (_, false) => Err(io::Error::other("the directory has too many entries")),
    }
}

/// Reads names from a directory until they fill `most` bytes of memory. Returns the names sorted,
/// and whether the list is complete.
///
/// # Errors
/// Returns the error of `getdents(2)`.
pub fn names(dir: &impl AsFd, most: usize) -> io::Result<(Vec<OsString>, bool)> {
    // Overhead of the vector and the allocator for each name.
    const ADDED: usize = 64;
    let mut names = Vec::new();
    let mut left = most;
    // A new descriptor is needed, because a duplicate would share its offset with `dir`.
    let fresh = open_dir(dir, OsStr::new("."))?;
    for entry in Dir::from_fd(fresh)?.iter() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name == b"." || name == b".." {
            continue;
        }
        let Some(after) = left.checked_sub(name.len() + ADDED) else {
            names.sort_unstable();
            return Ok((names, false));
        };
        left = after;
        names.push(OsString::from_vec(name));
    }
    names.sort_unstable();
    Ok((names, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_given_as_far_as_they_fit() {
        let place = tempfile::tempdir().unwrap();
        for number in 0..10 {
            std::fs::write(place.path().join(number.to_string()), "").unwrap();
        }
        let dir = hold(&place.path().canonicalize().unwrap()).unwrap();
        let (all, whole) = names(&dir, 650).unwrap();
        assert_eq!((all.len(), whole), (10, true));
        assert_eq!(all, list(&dir).unwrap());
        let (some, whole) = names(&dir, 649).unwrap();
        assert_eq!((some.len(), whole), (9, false));
    }

    /// Claims: read-directories*, crate-sys
    #[test]
    fn no_link_on_the_way_is_followed() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().canonicalize().unwrap();
        std::fs::create_dir_all(dir.join("real/inner")).unwrap();
        assert!(hold(&dir.join("real/inner")).is_ok());
        std::os::unix::fs::symlink("real", dir.join("link")).unwrap();
        for path in ["link", "link/inner"] {
            let path = dir.join(path);
            assert!(std::fs::metadata(&path).unwrap().is_dir());
            for found in [hold(&path), find(&path)] {
                assert_eq!(found.unwrap_err().raw_os_error(), Some(libc::ELOOP));
            }
        }
    }
}
