//! Opens files whose paths the caller supplies, without blocking and with a size limit. The command of an earlier run
//! may have been able to replace the file at such a path. The path may therefore name a FIFO, on which an ordinary open
//! blocks, or a file that does not fit into memory.
//!
//! Claims: read-named-files, read-new-packet
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Opens the regular file `path` without blocking.
///
/// # Errors
/// Returns the error of `open(2)`, or "not a regular file" for any other file type.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    // Without this flag, opening a FIFO waits for a writer. Only Unix has FIFOs at ordinary paths.
    #[cfg(unix)]
    options.custom_flags(libc::O_NONBLOCK);
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

/// Reads the regular file `path` of at most `most` bytes.
///
/// # Errors
/// Returns the errors of [`open`], and an error if the file is longer than `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = most.saturating_add(1);
    open(path)?.take(limit).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= most) {
        Ok(bytes)
    } else {
        let text = format!("the file is longer than {most} bytes");
        Err(io::Error::other(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: read-named-files*, read-new-packet, crate-files
    #[test]
    fn only_a_regular_file_that_is_short_enough_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"four");
        assert!(read(&path, 3).is_err());
        assert!(read(dir.path(), 4).is_err());
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&fifo, 4).is_err());
        // The caller may name a file through a link.
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        assert_eq!(read(&dir.path().join("link"), 4).unwrap(), b"four");
    }
}
