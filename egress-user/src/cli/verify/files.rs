//! Reads what is verified: regular files only, bounded, and in a packet none that lies outside it.
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::{MAX_FILES, VerifyError};
use crate::digest::sha256_of;
use crate::packet::{ATTESTATION_FILE, TIMESTAMP_FILE};

pub(super) fn read_error(path: &Path, source: io::Error) -> VerifyError {
    VerifyError::Read {
        path: path.to_owned(),
        source,
    }
}

pub(super) fn too_large(limit: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("larger than {limit} bytes"),
    )
}

/// Reads a regular file of at most `limit` bytes.
pub(super) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, VerifyError> {
    read_regular(path, limit).map_err(|source| read_error(path, source))
}

/// The kind is asked for before the file is opened, since opening a FIFO waits for its writer, and
/// once more on what was opened.
pub(in crate::cli) fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let irregular = || io::Error::other("not a regular file");
    if !fs::metadata(path)?.is_file() {
        return Err(irregular());
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(irregular());
    }
    if metadata.len() > limit {
        return Err(too_large(limit));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(too_large(limit));
    }
    Ok(bytes)
}

/// Reads a file that must lie inside `directory`, also after following links.
pub(in crate::cli) fn read_inside(
    directory: &Path,
    relative: &str,
    limit: u64,
) -> io::Result<Vec<u8>> {
    // A trailing slash would let a file pass for a directory.
    if relative.ends_with('/') {
        return Err(io::Error::other("not a regular file"));
    }
    let root = directory.canonicalize()?;
    let path = root.join(relative).canonicalize()?;
    if !path.starts_with(&root) {
        return Err(io::Error::other("a link leads out of the packet"));
    }
    read_regular(&path, limit)
}

/// Reads a file that may be absent.
pub(super) fn optional_inside(
    directory: &Path,
    name: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, VerifyError> {
    let path = directory.join(name);
    if fs::symlink_metadata(&path).is_err() {
        return Ok(None);
    }
    read_inside(directory, name, limit)
        .map(Some)
        .map_err(|source| read_error(&path, source))
}

/// Name and SHA-256 of every entry of a packet's directory but the attestation and its time stamp. What is no regular
/// file has no digest, so no attestation fits it.
pub(super) fn digests(directory: &Path) -> Result<Vec<(String, String)>, VerifyError> {
    let io = |source| read_error(directory, source);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if [ATTESTATION_FILE, TIMESTAMP_FILE].contains(&name.as_str()) {
            continue;
        }
        let digest = if entry.file_type().map_err(io)?.is_file() {
            digest(&entry.path()).map_err(|source| read_error(&entry.path(), source))?
        } else {
            String::from("not a regular file")
        };
        files.push((name, digest));
        if files.len() > MAX_FILES {
            return Err(io(io::Error::other("too many files")));
        }
    }
    files.sort();
    Ok(files)
}

pub(super) fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    sha256_of(&mut file)
}
