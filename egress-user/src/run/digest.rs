//! Computes SHA-256 digests.
use sha2::{Digest, Sha256};

/// Returns the SHA-256 of `bytes`, lowercase hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
