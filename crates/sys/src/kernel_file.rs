//! Reads files of the kernel, with errors that name the file.
use std::fs;
use std::io;
use std::path::Path;

/// Returns the text of the file at `path`.
///
/// # Errors
/// Returns an error with `path` and the kind of the original error if the file cannot be read.
pub fn text(path: impl AsRef<Path>) -> io::Result<String> {
    named(path.as_ref(), fs::read_to_string(&path))
}

/// Returns the bytes of the file at `path`.
///
/// # Errors
/// Returns an error with `path` and the kind of the original error if the file cannot be read.
pub fn bytes(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    named(path.as_ref(), fs::read(&path))
}

fn named<T>(path: &Path, read: io::Result<T>) -> io::Result<T> {
    read.map_err(|error| {
        let text = format!("cannot read {}: {error}", path.display());
        io::Error::new(error.kind(), text)
    })
}
