//! Gives the SHA-256 of what is too long to be held.
use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// SHA-256 of the rest of `reader`, lowercase hex.
///
/// # Errors
/// Those of the reader.
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
