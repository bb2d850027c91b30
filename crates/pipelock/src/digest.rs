//! Computes the SHA-256 of a stream that is too long for memory.
use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// Returns the SHA-256 of the remaining bytes of `reader` in lowercase hex.
///
/// # Errors
/// Fails if `reader` returns an error.
pub fn sha256_of(reader: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            length => hash.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}
