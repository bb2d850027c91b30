//! Produces the bytes that a TLS client sends: its first flight, and records of application data.
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Returns the first flight of a real client that connects to `name`.
pub fn hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Returns `bytes` in records of application data, which follow a handshake.
pub fn records(bytes: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    for piece in bytes.chunks(1 << 14) {
        let length = u16::try_from(piece.len()).unwrap_or_default().to_be_bytes();
        records.extend([23, 3, 3]);
        records.extend(length);
        records.extend(piece);
    }
    records
}
