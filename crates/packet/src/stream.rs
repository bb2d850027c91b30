//! A file of a packet that passes through a hash as it is read: what is judged is what the attestation is held to.
use std::fmt;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

use sha2::{Digest as _, Sha256};

/// Bytes that are hashed at once where nobody looks at them.
const CHUNK: usize = 64 << 10;

/// What can be read, and read again from its start.
pub trait Source: Read + Seek {}

impl<S: Read + Seek> Source for S {}

/// Name, SHA-256 and size of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigest {
    /// Its name in the packet's directory.
    pub name: String,
    /// Lowercase hex; for what cannot be hashed, why.
    pub sha256: String,
    /// Its size in bytes, if it is known.
    pub size: Option<u64>,
}

impl FileDigest {
    /// Of bytes that are held.
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        Self {
            name: String::from(name),
            sha256: hex::encode(Sha256::digest(bytes)),
            size: u64::try_from(bytes.len()).ok(),
        }
    }

    /// Of what cannot be hashed, and why: no attestation fits it.
    pub fn none(name: &str, why: impl Into<String>) -> Self {
        Self {
            name: String::from(name),
            sha256: why.into(),
            size: None,
        }
    }
}

/// A file that is read from its start to its end.
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
    /// Reads `source`, of which at most `most` bytes are read.
    pub fn new(source: impl Source + 'a, most: u64) -> Self {
        Self {
            source: Box::new(source),
            hash: Sha256::new(),
            size: 0,
            most,
            at_end: false,
        }
    }

    /// Reads bytes that are held.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self::new(Cursor::new(bytes), u64::MAX)
    }

    /// Hashes the rest, and nobody looks at it.
    ///
    /// # Errors
    /// Those of reading.
    pub fn hash_rest(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Begins again at the start, and forgets what was read.
    ///
    /// # Errors
    /// When the file cannot be read again.
    pub fn rewind(&mut self) -> io::Result<()> {
        self.source.seek(SeekFrom::Start(0))?;
        self.hash = Sha256::new();
        self.size = 0;
        self.at_end = false;
        Ok(())
    }

    /// The digest under this name of all that was read. A file that was not read to its end has none.
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

/// The error for a file of more than `most` bytes.
pub fn too_large(most: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("larger than {most} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
