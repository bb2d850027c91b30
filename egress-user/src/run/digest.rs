//! Gives the SHA-256 of bytes.
use sha2::{Digest, Sha256};

/// Lowercase hex SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
