//! Content of files and directories: digests for the record, and the comparison of a copy with its
//! original.
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::io::{self, Read};
use std::os::fd::AsFd;

use egress_sys::entry_xattr as xattr;
use nix::sys::stat::FileStat;
use nix::sys::statvfs::fstatvfs;
use sha2::{Digest, Sha256};

use super::judge::Kind;
use super::model::Change;
use super::tree;

/// The maximum number of bytes that are digested for holes, in total. This number is limited
/// because the command can create terabytes of holes with one call.
const MOST_HOLES: u64 = 8 << 30;

/// Computes digests of files. In total, the digests cover at most as many written bytes as the file system has room
/// for, and at most 8 GiB of holes. Files that share their written data, or that have holes, can exceed these limits; a
/// file beyond them has no digest. A file with several names is read once.
#[derive(Debug)]
pub struct Digests {
    holes_left: u64,
    written_left: u64,
    /// Digests of files with several names, by inode.
    known: BTreeMap<u64, Option<String>>,
}

impl Digests {
    /// Prepares digests for files on the file system of `dir`.
    ///
    /// # Errors
    /// Returns the error of `fstatvfs(3)`.
    pub fn on(dir: &impl AsFd) -> io::Result<Self> {
        let room = fstatvfs(dir)?;
        Ok(Self {
            holes_left: MOST_HOLES,
            // Some file systems report no size.
            written_left: match room.blocks().saturating_mul(room.fragment_size()) {
                0 => u64::MAX,
                bytes => bytes,
            },
            known: BTreeMap::new(),
        })
    }

    /// Computes the digest of `file`, unless it exceeds the bytes that may still be digested.
    ///
    /// # Errors
    /// Returns the error of `read(2)`.
    pub fn of(&mut self, file: impl Read, stat: &FileStat) -> io::Result<Option<String>> {
        if stat.st_nlink < 2 {
            return self.compute(file, stat);
        }
        if let Some(known) = self.known.get(&stat.st_ino) {
            return Ok(known.clone());
        }
        let digest = self.compute(file, stat)?;
        self.known.insert(stat.st_ino, digest.clone());
        Ok(digest)
    }

    fn compute(&mut self, file: impl Read, stat: &FileStat) -> io::Result<Option<String>> {
        const BLOCK: i64 = 512;
        let holes = (stat.st_size - stat.st_blocks.saturating_mul(BLOCK)).max(0);
        let bytes = |length: i64| u64::try_from(length).unwrap_or(0);
        let left = self
            .holes_left
            .checked_sub(bytes(holes))
            .zip(self.written_left.checked_sub(bytes(stat.st_size - holes)));
        match left {
            None => Ok(None),
            Some((holes, written)) => {
                (self.holes_left, self.written_left) = (holes, written);
                sha256(file).map(Some)
            }
        }
    }
}

/// Computes the lowercase hex SHA-256 of a file.
///
/// # Errors
/// Returns the error of `read(2)`.
pub fn sha256(mut file: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            length => hash.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}

/// Reads the extended attributes of an entry that programs may set (`user.*`).
///
/// # Errors
/// Returns the error of `llistxattr(2)` or `lgetxattr(2)`.
pub fn user_attributes(dir: &impl AsFd, name: &OsStr) -> io::Result<BTreeMap<CString, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for attribute in xattr::names(dir, name)? {
        if attribute.to_bytes().starts_with(b"user.")
            && let Some(value) = xattr::value(dir, name, &attribute)?
        {
            found.insert(attribute, value);
        }
    }
    Ok(found)
}

/// Whether the upper layer's copy of a file equals the workspace's file, as it does if the command opened the file for
/// writing and did not change it.
///
/// # Errors
/// Fails if one of the files cannot be read.
pub fn is_same(
    upper: &impl AsFd,
    lower: &impl AsFd,
    name: &OsStr,
    fresh: &FileStat,
    old: &FileStat,
    change: &Change,
) -> io::Result<bool> {
    let times = |stat: &FileStat| (stat.st_mtime, stat.st_mtime_nsec, stat.st_size);
    if fresh.st_mode != old.st_mode || times(fresh) != times(old) {
        return Ok(false);
    }
    match tree::kind(fresh) {
        // The command can reset the modification time, so the content is compared.
        Kind::File => Ok(
            user_attributes(upper, name)? == user_attributes(lower, name)?
                && change.sha256.is_some()
                && change.sha256 == Some(sha256(tree::open_file(lower, name)?)?),
        ),
        Kind::Symlink => Ok(
            nix::fcntl::readlinkat(lower, name).ok() == nix::fcntl::readlinkat(upper, name).ok()
        ),
        Kind::Device | Kind::Directory | Kind::Fifo | Kind::Socket => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: holes*
    #[test]
    fn no_more_is_digested_than_there_is_room_for() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        std::fs::write(&path, [7; 8192]).unwrap();
        let stat = nix::sys::stat::stat(&path).unwrap();
        let dir = std::fs::File::open(place.path()).unwrap();
        let mut digests = Digests::on(&dir).unwrap();
        assert!(digests.written_left > 1 << 20);
        digests.written_left = 3 * 8192;
        let mut digest = || digests.of([7; 8192].as_slice(), &stat).unwrap();
        // Each call simulates a file that shares its written data with the others.
        assert!((0..3).all(|_| digest().is_some()));
        assert!(digest().is_none());
        // Holes have their own limit.
        let mut digests = Digests::on(&dir).unwrap();
        assert_eq!(digests.holes_left, 8 << 30);
        digests.holes_left = 3 * 8192;
        let mut hollow = stat;
        hollow.st_blocks = 0;
        let mut digest = || digests.of([0; 8192].as_slice(), &hollow).unwrap();
        assert!((0..3).all(|_| digest().is_some()));
        assert!(digest().is_none());
    }
}
