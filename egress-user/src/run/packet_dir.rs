//! Keeps the packet directory open from the start of a run, and replaces it as a whole at the end.
//!
//! The parent directory is held open by a descriptor. No change of a path during the run can therefore lead the packet
//! elsewhere, and no symbolic link is followed.
//!
//! Claims: read-directories, read-old-packet
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use audit_packet::PACKET_FILES;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{AccessFlags, Gid, Uid, UnlinkatFlags, faccessat, fchown, geteuid, unlinkat};

use super::umask;

/// Reasons why a directory cannot become the packet directory. `egress run` then exits with 64.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PacketDirError {
    /// The directory cannot be opened or created.
    #[error("cannot use {path} as the packet directory")]
    Io {
        /// The path that the caller gave.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The path leads to a symbolic link, or not to a directory.
    #[error("packet directory {path} is a symbolic link or not a directory")]
    NotADirectory {
        /// The path that the caller gave.
        path: PathBuf,
    },
    /// The directory contains something other than a packet.
    #[error("packet directory {path} holds {name:?}, which is not part of a packet")]
    ForeignFile {
        /// The path that the caller gave.
        path: PathBuf,
        /// The first foreign entry.
        name: String,
    },
}

/// A directory that will hold the packet.
#[derive(Debug)]
pub struct PacketDir {
    parent: OwnedFd,
    name: String,
    path: PathBuf,
    created: bool,
    written: bool,
    attached: Option<(&'static str, File)>,
    owner: Option<(u32, u32)>,
    /// The directory that was written. This descriptor stays valid when the directory is renamed.
    fresh: Option<OwnedFd>,
}

impl PacketDir {
    /// Opens or creates the directory `path`, whose parent must exist.
    ///
    /// # Errors
    /// Fails if the path is a link, is not a directory, cannot be written, or holds files that do not belong to a
    /// packet.
    pub fn hold(path: &Path) -> Result<Self, PacketDirError> {
        let failed = |source: io::Error| PacketDirError::Io {
            path: path.to_path_buf(),
            source,
        };
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| failed(io::Error::other("its name is not UTF-8")))?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let canonical = parent.canonicalize().map_err(failed)?;
        // A user who can write to a directory of the path may have put a link there since the path was resolved.
        let how = OpenHow::new()
            .flags(OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        let parent = openat2(AT_FDCWD, &canonical, how).map_err(|errno| failed(errno.into()))?;
        // The packet is renamed into the parent directory, so its permission is checked before the run.
        faccessat(&parent, ".", AccessFlags::W_OK, AtFlags::AT_EACCESS)
            .map_err(|errno| failed(errno.into()))?;
        let created = match mkdirat(&parent, name, umask::reduced(0o755)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(failed(errno.into())),
        };
        let held = Self {
            parent,
            name: name.to_owned(),
            path: canonical.join(name),
            created,
            written: false,
            attached: None,
            owner: None,
            fresh: None,
        };
        let dir = match held.open() {
            Ok(dir) => dir,
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                return Err(PacketDirError::NotADirectory {
                    path: path.to_path_buf(),
                });
            }
            Err(errno) => return Err(failed(errno.into())),
        };
        for name in entries(dir).map_err(failed)? {
            if !PACKET_FILES.contains(&name.as_str()) {
                return Err(PacketDirError::ForeignFile {
                    path: path.to_path_buf(),
                    name,
                });
            }
        }
        Ok(held)
    }

    /// Returns the absolute path of the packet directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.parent, self.name.as_str(), flags, Mode::empty())
    }

    /// Sets the user and the group that will own the packet. The default is the owner of the parent directory.
    pub fn belongs_to(&mut self, uid: u32, gid: u32) {
        self.owner = Some((uid, gid));
    }

    /// Adds a file, which may be too large for memory, to the files that [`Self::replace`] writes.
    pub fn attach(&mut self, name: &'static str, file: File) {
        self.attached = Some((name, file));
    }

    /// Writes all files to a new directory, makes them durable, and puts the directory in place of the old one.
    ///
    /// # Errors
    /// Fails if a system call fails. The old directory is then unchanged, and the new directory is removed.
    pub fn replace(&mut self, files: &[(&str, Vec<u8>)]) -> io::Result<()> {
        let fresh = self.beside("new")?;
        let done = self.fill(&fresh, files).and_then(|dir| {
            self.swap(&fresh)?;
            self.fresh = Some(dir);
            Ok(())
        });
        done.map_err(|error| with_leftover(error, &fresh, self.remove(&fresh)))
    }

    /// Adds a file, whole or not at all, to the packet that was written.
    ///
    /// # Errors
    /// Fails if no packet was written, or a system call fails. The packet is then unchanged.
    pub fn add(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let not_written = || io::Error::other("no packet was written");
        let dir = self.fresh.as_ref().ok_or_else(not_written)?;
        let fresh = format!(".{name}.new");
        let mut file = self.create(dir, &fresh)?;
        let done = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(renameat(dir, fresh.as_str(), dir, name)?))
            .and_then(|()| Ok(nix::unistd::fsync(dir)?));
        let Err(error) = done else {
            return Ok(());
        };
        let removed = match unlinkat(dir, fresh.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        };
        Err(with_leftover(error, &fresh, removed))
    }

    /// Returns the user and the group that will own the packet.
    fn owner(&self) -> io::Result<(Option<Uid>, Option<Gid>)> {
        let parent = fstat(&self.parent)?;
        let (uid, gid) = self.owner.unwrap_or((parent.st_uid, parent.st_gid));
        Ok((Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))))
    }

    fn create(&self, dir: &OwnedFd, name: &str) -> io::Result<File> {
        let (uid, gid) = self.owner()?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let fd = openat(dir, name, flags, umask::reduced(0o644))?;
        fchown(fd.as_fd(), uid, gid)?;
        Ok(fd.into())
    }

    fn fill(&self, name: &str, files: &[(&str, Vec<u8>)]) -> io::Result<OwnedFd> {
        mkdirat(&self.parent, name, umask::reduced(0o755))?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = openat(&self.parent, name, flags, Mode::empty())?;
        // The owner of the parent directory may have replaced the new directory with another one. egress must not write
        // to that directory or change its owner.
        if fstat(&dir)?.st_uid != geteuid().as_raw() || !entries(dir.try_clone()?)?.is_empty() {
            return Err(io::Error::other(
                "another directory has replaced the new directory",
            ));
        }
        for (file, bytes) in files {
            let mut out = self.create(&dir, file)?;
            out.write_all(bytes)?;
            out.sync_all()?;
        }
        if let Some((name, file)) = &self.attached {
            let mut out = self.create(&dir, name)?;
            io::copy(&mut &*file, &mut out)?;
            out.sync_all()?;
        }
        let (uid, gid) = self.owner()?;
        fchown(dir.as_fd(), uid, gid)?;
        nix::unistd::fsync(&dir)?;
        Ok(dir)
    }

    fn swap(&mut self, fresh: &str) -> io::Result<()> {
        let old = self.beside("old")?;
        match renameat(&self.parent, self.name.as_str(), &self.parent, old.as_str()) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        renameat(&self.parent, fresh, &self.parent, self.name.as_str())?;
        nix::unistd::fsync(&self.parent)?;
        self.written = true;
        self.remove(&old)
    }

    /// Returns an unpredictable name beside the packet.
    fn beside(&self, what: &str) -> io::Result<String> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        Ok(format!(".{}.{what}-{}", self.name, hex::encode(random)))
    }

    /// Removes a directory that this module created, if it exists. Only files of a packet are removed from the
    /// directory, because the owner of the parent directory may have put another directory in its place.
    fn remove(&self, name: &str) -> io::Result<()> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = match openat(&self.parent, name, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        for entry in entries(dir.try_clone()?)? {
            if PACKET_FILES.contains(&entry.as_str()) {
                unlinkat(&dir, entry.as_str(), UnlinkatFlags::NoRemoveDir)?;
            }
        }
        unlinkat(&self.parent, name, UnlinkatFlags::RemoveDir)?;
        Ok(())
    }
}

impl Drop for PacketDir {
    fn drop(&mut self) {
        // A directory that was created for a packet that was never written is removed. If the directory is not empty,
        // the removal fails and the directory remains.
        if self.created && !self.written {
            let flags = UnlinkatFlags::RemoveDir;
            let removed = unlinkat(&self.parent, self.name.as_str(), flags);
            self.created = removed.is_err();
        }
    }
}

/// Returns the error that ended the writing. If the new directory could not be removed either, the error names that
/// directory.
fn with_leftover(error: io::Error, name: &str, removed: io::Result<()>) -> io::Error {
    match removed {
        Ok(()) => error,
        Err(left) => {
            let text =
                format!("{error}; {name} is left behind, because it cannot be removed: {left}");
            io::Error::new(error.kind(), text)
        }
    }
}

fn entries(dir: OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::from_fd(dir)?.iter() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leftover_directory_does_not_hide_the_first_error() {
        let full = || io::Error::from_raw_os_error(libc::ENOSPC);
        let busy = io::Error::from_raw_os_error(libc::EBUSY);
        assert_eq!(
            with_leftover(full(), "x", Ok(())).raw_os_error(),
            Some(libc::ENOSPC)
        );
        let both = with_leftover(full(), ".packet.new", Err(busy));
        assert_eq!(both.kind(), io::ErrorKind::StorageFull);
        let text = both.to_string();
        assert!(
            text.starts_with("No space left") && text.contains(".packet.new"),
            "{text}"
        );
    }

    /// Claims: read-directories, read-old-packet, packet-replaced*
    #[test]
    fn a_packet_is_replaced_whole_and_never_through_a_link() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("packet");
        let mut dir = PacketDir::hold(&path).unwrap();
        dir.replace(&[
            ("packet.json", b"{}".to_vec()),
            ("summary.md", b"one".to_vec()),
        ])
        .unwrap();
        dir.add("timestamp.tsr", b"token").unwrap();
        assert_eq!(std::fs::read(path.join("timestamp.tsr")).unwrap(), b"token");
        drop(dir);
        let mut dir = PacketDir::hold(&path).unwrap();
        assert!(dir.add("timestamp.tsr", b"none").is_err());
        // The name is replaced by a link to another directory.
        let elsewhere = base.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::rename(&path, base.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let outcome = dir.replace(&[("packet.json", b"[]".to_vec())]);
        assert!(
            std::fs::read_dir(&elsewhere).unwrap().next().is_none(),
            "{outcome:?}"
        );
    }

    #[test]
    fn what_took_the_place_of_a_packet_is_not_removed() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("packet");
        let mut dir = PacketDir::hold(&path).unwrap();
        dir.replace(&[("packet.json", b"{}".to_vec())]).unwrap();
        let mut dir = PacketDir::hold(&path).unwrap();
        std::fs::rename(&path, base.path().join("moved")).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("id_rsa"), "kept").unwrap();
        assert!(dir.replace(&[("packet.json", b"[]".to_vec())]).is_err());
        let found = std::fs::read_dir(base.path()).unwrap();
        let kept = found.filter(|entry| entry.as_ref().unwrap().path().join("id_rsa").exists());
        assert_eq!(kept.count(), 1);
        assert_eq!(std::fs::read(path.join("packet.json")).unwrap(), b"[]");
    }

    /// Claims: read-old-packet*
    #[test]
    fn links_foreign_files_and_missing_parents_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path(), &link).unwrap();
        assert!(matches!(
            PacketDir::hold(&link),
            Err(PacketDirError::NotADirectory { .. })
        ));
        let foreign = base.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("id_rsa"), "").unwrap();
        assert!(matches!(
            PacketDir::hold(&foreign),
            Err(PacketDirError::ForeignFile { .. })
        ));
        let missing = base.path().join("a/b");
        assert!(matches!(
            PacketDir::hold(&missing),
            Err(PacketDirError::Io { .. })
        ));
    }

    #[test]
    fn an_unused_directory_is_not_left_behind() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("packet");
        drop(PacketDir::hold(&path).unwrap());
        assert!(!path.exists());
    }
}
