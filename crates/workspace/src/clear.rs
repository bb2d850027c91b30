//! Removes a directory with everything that a hostile command created in it.
//!
//! `std::fs::remove_dir_all` uses a descriptor and a stack frame for each level, and the command
//! can create a hundred thousand levels in a second. This module moves directories that are not
//! empty to the top first, so that nothing is deeper than two levels.
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;

use egress_sys::dir::{names, open_dir};
use egress_sys::rename::{RenameFlags, rename};
use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// The maximum memory for names that are removed at once, in bytes.
const PORTION: usize = 8 << 20;

/// Removes the directory `name` of `holder`. The directory must not be a link. No link is followed.
///
/// # Errors
/// Returns the error of the first failed system call. Everything that was not removed before the
/// error stays.
pub fn remove_tree(holder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let top = open_dir(holder, name)?;
    let mut moved: u64 = 0;
    loop {
        let (portion, _) = names(&top, PORTION)?;
        if portion.is_empty() {
            return Ok(unlinkat(holder, name, UnlinkatFlags::RemoveDir)?);
        }
        for name in portion {
            if !remove_entry(&top, &name)? {
                empty(&top, &name, &mut moved)?;
                unlinkat(&top, name.as_os_str(), UnlinkatFlags::RemoveDir)?;
            }
        }
    }
}

/// Empties the directory `name` of `top`. Subdirectories of `name` that are not empty move to `top`.
fn empty(top: &OwnedFd, name: &OsStr, moved: &mut u64) -> io::Result<()> {
    let dir = open_dir(top, name)?;
    loop {
        let (portion, is_last) = names(&dir, PORTION)?;
        for inner in portion {
            if !remove_entry(&dir, &inner)? {
                move_up(&dir, &inner, top, moved)?;
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Moves the directory `inner` of `dir` to `top`, under a new name.
fn move_up(dir: &OwnedFd, inner: &OsStr, top: &OwnedFd, moved: &mut u64) -> io::Result<()> {
    loop {
        let fresh = OsString::from(format!(".removed-{moved}"));
        *moved += 1;
        match rename(dir, inner, top, &fresh, RenameFlags::NOREPLACE) {
            // The command created an entry with this name.
            Err(Errno::EEXIST) => {}
            done => return Ok(done?),
        }
    }
}

/// Removes an entry. Returns `false` for a directory that is not empty.
fn remove_entry(dir: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) => return Ok(true),
        Err(Errno::EISDIR) => {}
        Err(errno) => return Err(errno.into()),
    }
    match unlinkat(dir, name, UnlinkatFlags::RemoveDir) {
        Ok(()) => Ok(true),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::fcntl::{AT_FDCWD, OFlag, openat};
    use nix::sys::stat::{Mode, mkdirat};

    use super::*;

    #[test]
    fn a_tree_of_any_depth_goes_and_nothing_beside_it() {
        // The test works in memory, because so many directories are slow on a disk.
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        let kept = place.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        let tree = place.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        symlink(&kept, tree.join("link")).unwrap();
        std::fs::create_dir_all(tree.join(".removed-0/.removed-1/x")).unwrap();
        let mut at = open_dir(&AT_FDCWD, tree.as_os_str()).unwrap();
        for level in 0..5000 {
            for name in ["a", "b"] {
                mkdirat(&at, name, Mode::S_IRWXU).unwrap();
            }
            let mut file = OsString::from("f");
            file.push(level.to_string());
            openat(&at, file.as_os_str(), OFlag::O_CREAT, Mode::S_IRUSR).unwrap();
            at = open_dir(&at, OsStr::new("a")).unwrap();
        }
        drop(at);
        let holder = open_dir(&AT_FDCWD, place.path().as_os_str()).unwrap();
        let remove = |name: &str| remove_tree(&holder, OsStr::new(name));
        remove("tree").unwrap();
        assert!(!tree.exists());
        assert!(kept.join("file").exists());
        assert!(remove("kept/file").is_err());
        symlink(&kept, &tree).unwrap();
        assert!(remove("tree").is_err());
    }
}
