//! Single file operations whose errors name the operation and the path.
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// A failed step of building the file view, wrapped in the [`io::Error`] that the functions of the
/// file view return.
#[derive(Debug)]
struct StepError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl std::fmt::Display for StepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { step, path, source } = self;
        write!(f, "cannot {step} {}: {source}", path.display())
    }
}

impl std::error::Error for StepError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Adds the failed step and its path to an error.
pub(super) trait Step<T> {
    /// Returns the same result with a more precise error. The error names `step` (a verb, as in
    /// "create") and `path`, and keeps the kind of the original error.
    fn at(self, step: &'static str, path: &Path) -> io::Result<T>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn at(self, step: &'static str, path: &Path) -> io::Result<T> {
        self.map_err(|error| {
            let source = error.into();
            let path = path.to_path_buf();
            io::Error::new(source.kind(), StepError { step, path, source })
        })
    }
}

/// Returns `None` if nothing exists at `path`. Any other error keeps its kind.
pub(super) fn if_present<T>(found: io::Result<T>, path: &Path) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_absence(error.kind()) => Ok(None),
        Err(error) => Err(error).at("inspect", path),
    }
}

fn is_absence(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Creates a directory with exactly this mode.
pub(super) fn make(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().create(path).at("create", path)?;
    set_mode(path, mode)
}

/// Writes a file with exactly this mode.
pub(super) fn place(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    fs::write(path, content).at("write", path)?;
    set_mode(path, mode)
}

/// Gives `path` the owner in `meta`, and the bits of the mode in `meta` that are in `kept`.
pub(super) fn own(path: &Path, meta: &fs::Metadata, kept: u32) -> io::Result<()> {
    chown(path, Some(meta.uid()), Some(meta.gid())).at("change the owner of", path)?;
    set_mode(path, meta.mode() & kept)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode)).at("change the mode of", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_kind_and_names_where_it_was_met() {
        let denied = || io::Error::from_raw_os_error(libc::EACCES);
        let error = Err::<(), _>(denied())
            .at("make", Path::new("/x"))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(
            error.to_string(),
            "cannot make /x: Permission denied (os error 13)"
        );
    }

    #[test]
    fn only_what_is_not_there_is_nothing() {
        let met =
            |errno| if_present::<()>(Err(io::Error::from_raw_os_error(errno)), Path::new("/x"));
        assert!(matches!(met(libc::ENOENT), Ok(None)));
        assert!(matches!(met(libc::ENOTDIR), Ok(None)));
        for errno in [libc::EACCES, libc::EIO, libc::ELOOP, libc::ENOMEM] {
            assert!(met(errno).is_err(), "{errno}");
        }
    }
}
