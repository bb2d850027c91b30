//! Finds the Pipelock binary, copies it, and computes the digest of the copy.
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::PipelockError;
use crate::digest::sha256_of;

/// Name of the binary on `PATH`.
const NAME: &str = "pipelock";
/// Size limit of the binary.
const MAX_BYTES: u64 = 1 << 30;

/// Returns the first file named `pipelock` in an absolute directory of a search path.
pub fn on_path(path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path?)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(NAME))
        .find(|file| file.is_file())
}

/// Copies the binary `from` to `to`. Only root can change the copy.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), PipelockError> {
    let file = |what, path: &Path| {
        let path = path.to_path_buf();
        move |source| PipelockError::File { what, path, source }
    };
    let mut source = egress_files::open(from).map_err(file("read", from))?;
    let meta = source.metadata().map_err(file("read", from))?;
    if meta.len() > MAX_BYTES {
        let too_large = io::Error::other(format!("the file has more than {MAX_BYTES} bytes"));
        return Err(file("use", from)(too_large));
    }
    let mut target = File::options()
        .write(true)
        .create_new(true)
        .mode(0o555)
        .open(to)
        .map_err(file("create", to))?;
    io::copy(&mut source, &mut target).map_err(file("copy Pipelock to", to))?;
    Ok(())
}

/// Returns the SHA-256 of a file in lowercase hex.
pub(super) fn digest(path: &Path) -> io::Result<String> {
    sha256_of(&mut File::open(path)?)
}
