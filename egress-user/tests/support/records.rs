//! What a TLS client sends after its handshake.

/// Bytes in records of application data, as they follow a handshake.
pub(crate) fn records(bytes: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    for piece in bytes.chunks(1 << 14) {
        let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
        records.extend([23, 3, 3]);
        records.extend(length);
        records.extend(piece);
    }
    records
}
