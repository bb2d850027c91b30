//! Stores evidence lines in files that contain only whole lines.
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An open evidence file.
pub trait EvidenceFile: Send + Sync {
    /// Appends whole lines.
    ///
    /// # Errors
    /// Fails if the lines cannot be written. The bytes that were already written are then removed again. If they cannot
    /// be removed, the error text states this.
    fn append(&self, lines: &[u8]) -> io::Result<()>;

    /// Waits until all appended lines are on disk.
    ///
    /// # Errors
    /// Fails if the disk reports an error. Lines that were appended since the last successful
    /// call may be lost.
    fn sync(&self) -> io::Result<()>;
}

/// Creates evidence files.
pub trait Store: Send + Sync {
    /// Creates the file `name`. No file of this name may exist.
    ///
    /// # Errors
    /// Fails if the file exists or cannot be created.
    fn create(&self, name: &str) -> io::Result<Arc<dyn EvidenceFile>>;
}

/// A store in a directory. The store creates files with mode 0600, and does not use existing files
/// or follow links.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Creates a store in the directory at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl Store for Directory {
    fn create(&self, name: &str) -> io::Result<Arc<dyn EvidenceFile>> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(self.path.join(name))?;
        // The directory entry must be durable as well as the bytes.
        File::open(&self.path)?.sync_all()?;
        Ok(Arc::new(DiskFile {
            file,
            length: AtomicU64::new(0),
        }))
    }
}

struct DiskFile {
    file: File,
    /// Length up to the last whole line.
    length: AtomicU64,
}

impl EvidenceFile for DiskFile {
    fn append(&self, lines: &[u8]) -> io::Result<()> {
        let length = self.length.load(Ordering::Relaxed);
        if let Err(error) = (&self.file).write_all(lines) {
            // A verification would reject a file with an incomplete last line.
            return Err(match self.file.set_len(length) {
                Ok(()) => error,
                Err(torn) => io::Error::new(
                    error.kind(),
                    format!("{error}; cannot remove the incomplete last line: {torn}"),
                ),
            });
        }
        let written = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        self.length
            .store(length.saturating_add(written), Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
