//! Directories by descriptor: nothing in them is followed.
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;

/// Opens the directory `name` of `dir`, which must not be a link.
///
/// # Errors
/// Those of `openat(2)`.
pub fn open_dir(dir: &impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

/// Opens the directory `path`, which was without links when it was looked up: an agent that owns a directory
/// on the way may have put one there since.
///
/// # Errors
/// Those of `openat2(2)`; `ELOOP` for a link.
pub fn hold(path: &Path) -> io::Result<OwnedFd> {
    without_links(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}

/// Finds `path` by the same rule, without opening what is there.
///
/// # Errors
/// Those of `openat2(2)`; `ELOOP` for a link.
pub fn find(path: &Path) -> io::Result<OwnedFd> {
    without_links(path, OFlag::O_PATH)
}

fn without_links(path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(openat2(AT_FDCWD, path, how)?)
}

/// Names in a directory, in the order of their bytes.
///
/// # Errors
/// Those of `getdents(2)`.
pub fn list(dir: &impl AsFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    // A descriptor of its own: the offset of a shared one would be shared too.
    let fresh = open_dir(dir, OsStr::new("."))?;
    for entry in Dir::from_fd(fresh)?.iter() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(&name).to_os_string());
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

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
