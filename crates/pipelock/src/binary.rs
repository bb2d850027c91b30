//! The program that is executed: found once, copied, and known by the digest of the copy.
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::PipelockError;
use crate::digest::sha256_of;

/// Its name on `PATH`.
const NAME: &str = "pipelock";
/// No Pipelock is larger.
const MAX_BYTES: u64 = 1 << 30;

/// The first `pipelock` on a search path that is a file.
pub fn on_path(path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path?)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(NAME))
        .find(|file| file.is_file())
}

/// Copies the program `from` to `to`, where nobody can change it any more.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), PipelockError> {
    let file = |what, path: &Path| {
        let path = path.to_path_buf();
        move |source| PipelockError::File { what, path, source }
    };
    let mut source = egress_files::open(from).map_err(file("read", from))?;
    let meta = source.metadata().map_err(file("read", from))?;
    if meta.len() > MAX_BYTES {
        let odd = io::Error::other("it is no file that could be a program");
        return Err(file("use", from)(odd));
    }
    let mut target = File::options()
        .write(true)
        .create_new(true)
        .mode(0o555)
        .open(to)
        .map_err(file("make", to))?;
    io::copy(&mut source, &mut target).map_err(file("copy Pipelock to", to))?;
    Ok(())
}

/// Lowercase hex SHA-256 of a file.
pub(super) fn digest(path: &Path) -> io::Result<String> {
    sha256_of(&mut File::open(path)?)
}
