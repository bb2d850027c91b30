//! The cache of package managers that a caller keeps between runs (`--cache`).
//!
//! The cache directory contains a tag and the directory `files`. Only `files` is mounted for the command. The tag shows
//! that the cache directory was created for this purpose, because everything in `files` belongs to commands.
//!
//! Claims: cache-apart
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use egress_sandbox::view::home::CACHES;
use egress_sys::dir;
use egress_workspace::{Access, mapped};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchown};

use super::error::CacheError;

/// Name of the tag (<https://bford.info/cachedir/>).
const TAG: &str = "CACHEDIR.TAG";
/// Content of the tag. The first line is the same in every tag of this format.
const TAGGED: &[u8] =
    b"Signature: 8a477f597d28d172789f06886806bc55\n# This directory was made by egress run --cache.\n";
/// The reason for rejecting another tag.
const FOREIGN_TAG: &str = "egress did not write the file CACHEDIR.TAG in this directory";
/// Name of the directory that is mounted.
const FILES: &str = "files";

/// The cache of a run, which is locked until this value is dropped.
#[derive(Debug)]
pub(super) struct Cache {
    /// The mount, which is not attached anywhere yet.
    pub(super) tree: OwnedFd,
    _lock: Flock<File>,
}

/// Locks the cache at `path`, creates its missing directories, and creates its mount for `agent`.
///
/// # Order
/// Call this while the process has a single thread.
///
/// # Errors
/// Fails if the directory is not empty and has no tag, if another run uses the cache, or if the file system of the
/// cache does not support idmapped mounts.
pub(super) fn open(path: &Path, agent: u32) -> Result<Cache, CacheError> {
    let held = dir::hold(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotADirectory {
            CacheError::NotACache("it is not a directory")
        } else {
            CacheError::Io(error)
        }
    })?;
    let lock =
        Flock::lock(tag(&held)?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            if errno == Errno::EWOULDBLOCK {
                CacheError::InUse
            } else {
                errno.into()
            }
        })?;
    let owner = fstat(&held)?;
    let owner = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
    // No command runs with this cache now, so nothing replaces a directory between these steps.
    let files = directory(&held, FILES, owner)?;
    for (_, name) in CACHES {
        match directory(&files, name, owner) {
            // ELOOP and ENOTDIR mean that an earlier command put another kind of file at this path. Only commands use
            // that file.
            Ok(_) | Err(Errno::ELOOP | Errno::ENOTDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let tree = mapped(&path.join(FILES), agent, Access::ReadWrite);
    Ok(Cache {
        tree: tree.map_err(CacheError::Mount)?,
        _lock: lock,
    })
}

/// Opens the tag. An empty directory gets one.
fn tag(held: &OwnedFd) -> Result<File, CacheError> {
    let not_a_cache = |why| Err(CacheError::NotACache(why));
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    match openat(held, TAG, flags | OFlag::O_RDONLY, Mode::empty()) {
        Err(Errno::ENOENT) => {
            if !dir::list(held)?.is_empty() {
                return not_a_cache(
                    "egress did not create this directory as a cache, and it is not empty",
                );
            }
            let create = flags | OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
            let mode = Mode::from_bits_truncate(0o644);
            let mut file = File::from(openat(held, TAG, create, mode)?);
            file.write_all(TAGGED)?;
            Ok(file)
        }
        // The file is a symbolic link.
        Err(Errno::ELOOP) => not_a_cache(FOREIGN_TAG),
        opened => {
            let file = File::from(opened?);
            let mut text = Vec::new();
            let is_tag = file.metadata()?.is_file()
                && (&file).take(1 << 10).read_to_end(&mut text).is_ok()
                && text == TAGGED;
            if is_tag {
                Ok(file)
            } else {
                not_a_cache(FOREIGN_TAG)
            }
        }
    }
}

/// Opens the directory `name`, and creates it if it does not exist.
fn directory(within: &OwnedFd, name: &str, (uid, gid): (Uid, Gid)) -> Result<OwnedFd, Errno> {
    let made = mkdirat(within, name, Mode::S_IRWXU);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match made {
        Err(errno) if errno != Errno::EEXIST => Err(errno),
        made => {
            let opened = openat(within, name, flags, Mode::empty())?;
            if made.is_ok() {
                fchown(&opened, Some(uid), Some(gid))?;
                fchmod(&opened, Mode::from_bits_truncate(0o755))?;
            }
            Ok(opened)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_or_tagged_directory_is_a_cache() {
        let dir = tempfile::tempdir().unwrap();
        let held = dir::hold(dir.path()).unwrap();
        tag(&held).unwrap();
        std::fs::create_dir(dir.path().join(FILES)).unwrap();
        tag(&held).unwrap();
        let assert_refused = || assert!(matches!(tag(&held), Err(CacheError::NotACache(_))));
        std::fs::write(dir.path().join(TAG), "other").unwrap();
        assert_refused();
        std::fs::remove_file(dir.path().join(TAG)).unwrap();
        assert_refused();
        std::os::unix::fs::symlink("/dev/null", dir.path().join(TAG)).unwrap();
        assert_refused();
    }
}
