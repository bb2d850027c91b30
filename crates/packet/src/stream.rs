//! Hashes a file of a packet while it is read, so that the bytes that are judged are the bytes that the attestation
//! covers.
use std::fmt;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

use sha2::{Digest as _, Sha256};

/// Number of bytes that are hashed at once if the file is only hashed.
pub(super) const CHUNK: usize = 64 << 10;

/// A reader that can be rewound to its start.
pub trait Source: Read + Seek {}

impl<S: Read + Seek> Source for S {}

/// Name, SHA-256, and size of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigest {
    /// Name in the packet directory.
    pub name: String,
    /// SHA-256, lowercase hex, or the reason why the file cannot be hashed.
    pub sha256: String,
    /// Size in bytes, if it is known.
    pub size: Option<u64>,
}

impl FileDigest {
    /// Hashes bytes in memory.
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        Self {
            name: String::from(name),
            sha256: hex::encode(Sha256::digest(bytes)),
            size: u64::try_from(bytes.len()).ok(),
        }
    }

    /// Returns a digest that no attestation matches, for a file that cannot be hashed.
    pub fn none(name: &str, why: impl Into<String>) -> Self {
        Self {
            name: String::from(name),
            sha256: why.into(),
            size: None,
        }
    }
}

/// A file that is read from its start to its end and hashed.
pub struct Stream<'a> {
    source: Box<dyn Source + 'a>,
    hash: Sha256,
    size: u64,
    most: u64,
    at_end: bool,
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Stream")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl<'a> Stream<'a> {
    /// Reads at most `most` bytes of `source`.
    pub fn new(source: impl Source + 'a, most: u64) -> Self {
        Self {
            source: Box::new(source),
            hash: Sha256::new(),
            size: 0,
            most,
            at_end: false,
        }
    }

    /// Creates a stream from bytes in memory, without a limit.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self::new(Cursor::new(bytes), u64::MAX)
    }

    /// Reads and hashes the rest.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn hash_rest(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Starts again with an empty hash.
    ///
    /// # Errors
    /// Fails if the file cannot be rewound.
    pub fn rewind(&mut self) -> io::Result<()> {
        self.source.seek(SeekFrom::Start(0))?;
        self.hash = Sha256::new();
        self.size = 0;
        self.at_end = false;
        Ok(())
    }

    /// Returns the digest of the bytes that were read, under this name. A file that was not read to its end has no
    /// digest.
    pub fn digest(&self, name: &str) -> FileDigest {
        if !self.at_end {
            return FileDigest::none(name, "not read to its end");
        }
        FileDigest {
            name: String::from(name),
            sha256: hex::encode(self.hash.clone().finalize()),
            size: Some(self.size),
        }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.at_end = length == 0 && !buffer.is_empty();
        self.hash.update(buffer.get(..length).unwrap_or_default());
        self.size = self
            .size
            .saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        if self.size > self.most {
            return Err(too_large(self.most));
        }
        Ok(length)
    }
}

/// Returns the error for a file of more than `most` bytes.
pub fn too_large(most: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("larger than {most} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: verify-streams
    #[test]
    fn digest_is_of_what_was_read_and_only_at_the_end() {
        let bytes = vec![7; 100_000];
        let mut stream = Stream::of(&bytes);
        let mut half = vec![0; 50_000];
        stream.read_exact(&mut half).unwrap();
        assert_eq!(
            stream.digest("x"),
            FileDigest::none("x", "not read to its end")
        );
        stream.hash_rest().unwrap();
        assert_eq!(stream.digest("x"), FileDigest::of("x", &bytes));
        stream.rewind().unwrap();
        assert_eq!(stream.digest("x").size, None);
        stream.hash_rest().unwrap();
        assert_eq!(stream.digest("x"), FileDigest::of("x", &bytes));
    }

    #[test]
    fn no_more_is_read_than_may_be() {
        let bytes = vec![7; 100_000];
        let mut stream = Stream::new(Cursor::new(&bytes), 100_000);
        assert!(stream.hash_rest().is_ok());
        let mut stream = Stream::new(Cursor::new(&bytes), 99_999);
        let error = stream.hash_rest().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(stream.digest("x").size, None);
    }
}
