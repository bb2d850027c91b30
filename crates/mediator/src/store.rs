//! Where evidence lines go: files that grow by whole lines or not at all.
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One evidence file that is being written.
pub trait EvidenceFile: Send + Sync {
    /// Appends whole lines.
    ///
    /// # Errors
    /// When they could not be written; then none of their bytes stays in the file.
    fn append(&self, lines: &[u8]) -> io::Result<()>;

    /// Waits until everything appended so far is on the disk.
    ///
    /// # Errors
    /// When the disk refuses; what was appended since the last success may be lost.
    fn sync(&self) -> io::Result<()>;
}

/// A place that evidence files are made in.
pub trait Store: Send + Sync {
    /// Makes the file `name`, which must not exist.
    ///
    /// # Errors
    /// When it exists or cannot be made.
    fn create(&self, name: &str) -> io::Result<Arc<dyn EvidenceFile>>;
}

/// A directory: files of mode 0600, never an existing one, never through a link.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory at `path`.
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
        // The name must survive as well as the bytes.
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
            // A torn last line would make every reader reject the whole file.
            return Err(match self.file.set_len(length) {
                Ok(()) => error,
                Err(torn) => io::Error::new(
                    error.kind(),
                    format!("{error}; the torn line could not be cut off: {torn}"),
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
