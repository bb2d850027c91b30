//! Copies the workspace for `--workspace copy`. This mode is for file systems that support neither
//! id-mapped mounts nor upper layers. Devices, sockets, named pipes and other mounts are left out.
//!
//! Claims: read-copy
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};

use egress_sys::entry_xattr as xattr;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, Whence, fchown, fchownat, lseek, symlinkat};

use super::content::user_attributes;
use super::judge::{self, Kind};
use super::path::RelPath;
use super::tree;
use crate::store::{self, About, COPY, Store};

/// A file of the store whose creation marks the end of copying.
const COPIED: &str = "copied";

/// Copies the workspace of `store` into the store. In the copy, the files of the workspace's owner
/// belong to the command's user.
///
/// # Errors
/// Fails if an entry cannot be read or the file system is full.
pub fn copy(store: &Store) -> io::Result<()> {
    let (from, to) = (store.workspace()?, store.dir(COPY)?);
    entries(&from, &to, &RelPath::default(), store.about())?;
    finish(&to, &fstat(&from)?, store.about())
}

/// Records that the copy is complete. Every later change in the copy is the command's.
///
/// # Errors
/// Fails if the file cannot be created.
pub fn end(store: &Store) -> io::Result<()> {
    store.create_file(COPIED).map(drop)
}

/// Returns the time at which copying ended, by the clock of the file system.
///
/// # Errors
/// Fails if the copy was not completed.
pub fn ended(store: &Store) -> io::Result<(i64, i64)> {
    tree::stat(store.held(), OsStr::new(COPIED))?
        .map(|stat| tree::changed_at(&stat))
        .ok_or_else(|| io::Error::other("the copy of the workspace was not completed"))
}

fn entries(from: &OwnedFd, to: &OwnedFd, path: &RelPath, about: &About) -> io::Result<()> {
    let device = fstat(from)?.st_dev;
    for name in tree::list(from)? {
        let Some(stat) = tree::stat(from, &name)? else {
            continue;
        };
        let name = name.as_os_str();
        if store::is_name(name) {
            continue;
        }
        let path = path.join(name);
        if judge::depth(&path).is_err() {
            return Err(io::Error::other(
                "cannot copy the workspace because a directory in it is deeper than 256 levels or its path longer than 3,072 bytes",
            ));
        }
        match tree::kind(&stat) {
            Kind::Directory if stat.st_dev == device => {
                mkdirat(to, name, Mode::S_IRWXU)?;
                let (inner, fresh) = (tree::open_dir(from, name)?, tree::open_dir(to, name)?);
                entries(&inner, &fresh, &path, about)?;
                attributes(from, to, name)?;
                // The copy gets the owner and mode of the directory that was read, because another
                // process may have renamed that directory meanwhile.
                finish(&fresh, &fstat(&inner)?, about)?;
            }
            Kind::File => {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                let fresh = File::from(openat(to, name, flags, Mode::S_IRWXU)?);
                let mut source = tree::open_file(from, name)?;
                data(&mut source, &fresh)?;
                attributes(from, to, name)?;
                finish(&fresh, &fstat(&source)?, about)?;
            }
            Kind::Symlink => {
                symlinkat(readlinkat(from, name)?.as_os_str(), to, name)?;
                let (uid, gid) = owner(&stat, about);
                fchownat(to, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
            Kind::Device | Kind::Directory | Kind::Fifo | Kind::Socket => {}
        }
    }
    Ok(())
}

/// Copies the written data of a file, and leaves its holes.
fn data(from: &mut File, mut to: &File) -> io::Result<()> {
    to.set_len(from.metadata()?.len())?;
    let mut at = 0;
    loop {
        let start = match lseek(from.as_fd(), at, Whence::SeekData) {
            Ok(start) => start,
            // The rest of the file is a hole.
            Err(Errno::ENXIO) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let end = lseek(from.as_fd(), start, Whence::SeekHole)?;
        let place = SeekFrom::Start(u64::try_from(start).map_err(io::Error::other)?);
        from.seek(place)?;
        to.seek(place)?;
        let length = u64::try_from(end - start).map_err(io::Error::other)?;
        io::copy(&mut from.take(length), &mut to)?;
        at = end;
    }
}

fn attributes(from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> io::Result<()> {
    for (attribute, value) in user_attributes(from, name)? {
        xattr::set(to, name, &attribute, &value)?;
    }
    Ok(())
}

fn owner(stat: &FileStat, about: &About) -> (Option<Uid>, Option<Gid>) {
    let exchanged = |id: u32, owner: u32| if id == owner { about.agent } else { id };
    (
        Some(Uid::from_raw(exchanged(stat.st_uid, about.uid))),
        Some(Gid::from_raw(exchanged(stat.st_gid, about.gid))),
    )
}

fn finish(fresh: &impl AsFd, stat: &FileStat, about: &About) -> io::Result<()> {
    let (uid, gid) = owner(stat, about);
    fchown(fresh, uid, gid)?;
    fchmod(fresh, Mode::from_bits_truncate(stat.st_mode & 0o1777))?;
    let modified = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    futimens(fresh, &modified, &modified)?;
    Ok(())
}
