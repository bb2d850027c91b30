//! Reads the certificate files of time stamp authorities (`--timestamp-ca`).
use std::io;
use std::path::{Path, PathBuf};

use egress_timestamp::Roots;

use super::exit;

/// Size limit of a certificate file.
const MOST_BYTES: u64 = 1 << 20;

/// Why a certificate file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The file cannot be read.
    #[error("cannot read --timestamp-ca {}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The file contains no usable certificates.
    #[error("--timestamp-ca {}: {reason}; use a file of PEM certificates", path.display())]
    Form {
        /// Path of the file.
        path: PathBuf,
        /// Reason that the parser gives.
        reason: String,
    },
}

impl AuthorityError {
    /// Returns the exit status for this error.
    pub(super) fn status(&self) -> u8 {
        match self {
            Self::Read { .. } => exit::CANNOT_READ,
            Self::Form { .. } => exit::USAGE,
        }
    }
}

/// Reads the certificates of all `paths`. Returns `None` if there are no paths.
///
/// # Errors
/// Fails if a file cannot be read, or contains no certificate.
pub(super) fn read(paths: &[PathBuf]) -> Result<Option<Roots>, AuthorityError> {
    let mut all: Option<Roots> = None;
    for path in paths {
        let roots = read_one(path)?;
        match &mut all {
            Some(all) => all.extend(roots),
            None => all = Some(roots),
        }
    }
    Ok(all)
}

fn read_one(path: &Path) -> Result<Roots, AuthorityError> {
    let path_buf = || path.to_path_buf();
    let text = egress_files::read(path, MOST_BYTES).map_err(|source| AuthorityError::Read {
        path: path_buf(),
        source,
    })?;
    Roots::from_pem(&text).map_err(|reason| AuthorityError::Form {
        path: path_buf(),
        reason,
    })
}
