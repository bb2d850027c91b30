//! Reads the certificate files of time stamp authorities, for `--timestamp-ca`.
use std::io;
use std::path::{Path, PathBuf};

use audit_packet::timestamp::Roots;

use super::exit;

/// Longest certificate file that is read.
const MOST_BYTES: u64 = 1 << 20;

/// Why a certificate file is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The file cannot be read.
    #[error("cannot read --timestamp-ca {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds something else than certificates.
    #[error("--timestamp-ca {}: {reason}; name a file of certificates in PEM form", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl AuthorityError {
    /// The exit status.
    pub(super) fn status(&self) -> u8 {
        match self {
            Self::Read { .. } => exit::CANNOT_READ,
            Self::Form { .. } => exit::USAGE,
        }
    }
}

/// Reads the certificates of all `paths`; without any there are none.
///
/// # Errors
/// When a file cannot be read, or holds no certificate.
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
