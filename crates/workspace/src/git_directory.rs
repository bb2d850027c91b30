//! Detects git directories by the same rules as git.
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::reach::Reach;

/// The maximum length of a file that names a git directory, in bytes.
const LONGEST: u64 = 16 << 10;

/// Whether git treats `dir` as a git directory (`is_git_directory` in its setup.c).
///
/// # Errors
/// Fails if an existing file or directory that decides this cannot be read.
pub fn is_git_directory(reach: &Reach, dir: &Path) -> io::Result<bool> {
    let head = dir.join("HEAD");
    let is_head = match head.read_link() {
        Ok(target) => target.starts_with("refs"),
        Err(_) => reach
            .read(&head, LONGEST)?
            .is_some_and(|head| is_head(&head.text)),
    };
    if !is_head {
        return Ok(false);
    }
    let common = named_in(reach, &dir.join("commondir"), "")?;
    let common = common.as_deref().unwrap_or(dir);
    for name in ["objects", "refs"] {
        let Some(path) = resolved(&common.join(name)) else {
            return Ok(false);
        };
        if !reach.is_dir(&path)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads the path in a file of one line, such as `.git` and `commondir`.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn named_in(reach: &Reach, file: &Path, prefix: &str) -> io::Result<Option<PathBuf>> {
    let Some(file) = resolved(file) else {
        return Ok(None);
    };
    let Some(found) = reach.read(&file, LONGEST)? else {
        return Ok(None);
    };
    let Some(name) = found.text.strip_prefix(prefix.as_bytes()) else {
        return Ok(None);
    };
    let name = OsStr::from_bytes(name.trim_ascii());
    Ok(resolved(&file.parent().unwrap_or(&file).join(name)))
}

/// Resolves all links in the path. Returns `None` if the path does not exist.
pub fn resolved(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()
}

/// Whether git accepts `text` as the content of `HEAD`.
fn is_head(text: &[u8]) -> bool {
    if let Some(name) = text.strip_prefix(b"ref:") {
        return name.trim_ascii_start().starts_with(b"refs/");
    }
    let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit());
    digits.count() >= 40
}
