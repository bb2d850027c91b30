//! The program that is executed: found once, copied, and known by the digest of the copy.
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::PipelockError;

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
    let mut source = File::open(from).map_err(file("read", from))?;
    let meta = source.metadata().map_err(file("read", from))?;
    if !meta.is_file() || meta.len() > MAX_BYTES {
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
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            length => hash.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}
