//! Digests of system call filters.
use seccompiler::BpfProgram;
use sha2::{Digest, Sha256};

/// Returns the SHA-256 of compiled filters in the order of their installation, as recorded in
/// boundary.json and the posture capsule.
pub fn digest<'a>(filters: impl IntoIterator<Item = &'a BpfProgram>) -> String {
    let mut hash = Sha256::new();
    for op in filters.into_iter().flatten() {
        hash.update(op.code.to_le_bytes());
        hash.update([op.jt, op.jf]);
        hash.update(op.k.to_le_bytes());
    }
    hex::encode(hash.finalize())
}
