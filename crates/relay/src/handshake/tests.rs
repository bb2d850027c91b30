use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion, version,
};

use super::*;

const X25519: &[&dyn SupportedKxGroup] = &[ring::kx_group::X25519];
const P256: &[&dyn SupportedKxGroup] = &[ring::kx_group::SECP256R1];
const BOTH: &[&dyn SupportedKxGroup] = &[ring::kx_group::X25519, ring::kx_group::SECP256R1];
type Versions = &'static [&'static SupportedProtocolVersion];
const CLIENT_HELLO: u8 = 1;
const TLS12: Versions = &[&version::TLS12];
const TLS13: Versions = &[&version::TLS13];

/// A key with an invalid certificate. The tests end before the client checks the certificate.
#[derive(Debug)]
struct Certificate(Arc<CertifiedKey>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn provider(groups: &[&'static dyn SupportedKxGroup]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups: groups.to_vec(),
        ..ring::default_provider()
    })
}

fn server(groups: &[&'static dyn SupportedKxGroup]) -> ServerConnection {
    // Any 32 bytes are a private key (RFC 8410, section 7).
    let document = [
        hex::decode("302e020100300506032b657004220420").unwrap(),
        vec![7; 32],
    ]
    .concat();
    let key = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(document)).unwrap();
    let certificate = CertificateDer::from(vec![0x30, 0]);
    let key = Certificate(Arc::new(CertifiedKey::new(vec![certificate], key)));
    let config = ServerConfig::builder_with_provider(provider(groups))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(key));
    ServerConnection::new(Arc::new(config)).unwrap()
}

fn client(groups: &[&'static dyn SupportedKxGroup], versions: Versions) -> ClientConnection {
    let config = ClientConfig::builder_with_provider(provider(groups))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("allowed.test").unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

/// Returns a handshake in pieces: the client's first hello and the server's answer. If the answer requests another
/// hello, the second hello and its answer follow.
fn talk(versions: Versions, groups: &[&'static dyn SupportedKxGroup]) -> Vec<Vec<u8>> {
    let (mut client, mut server) = (client(BOTH, versions), server(groups));
    let mut said = Vec::new();
    loop {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        server.read_tls(&mut flight.as_slice()).unwrap();
        drop(server.process_new_packets());
        said.push(flight);
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).unwrap();
        }
        let is_retry = answer.get(11..43) == Some(&RETRY);
        client.read_tls(&mut answer.as_slice()).unwrap();
        said.push(answer);
        if !is_retry {
            return said;
        }
        client.process_new_packets().unwrap();
    }
}

/// Returns a handshake with two hellos. The record that the client sends for middleboxes before its
/// second hello is left out (RFC 8446, appendix D.4).
fn retried() -> [Vec<u8>; 4] {
    let [first, retry, second, answer] = talk(TLS13, P256).try_into().unwrap();
    let second = second.strip_prefix(record(CHANGE_CIPHER_SPEC, &[1]).as_slice());
    [first, retry, second.unwrap().to_vec(), answer]
}

/// Replaces the name in the bytes with another name of the same length.
fn renamed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let name = b"allowed.test";
    let at = bytes
        .windows(name.len())
        .position(|part| part == name)
        .unwrap();
    bytes[at..at + name.len()].copy_from_slice(b"denied0.test");
    bytes
}

fn host() -> Host {
    Host::Name("allowed.test".into())
}

/// Starts the check after the first hello, so that all following bytes are judged.
fn watch<'h>(host: &'h Host, first: &[u8]) -> Handshake<'h> {
    Handshake::of(host, client_hello::parse(first).unwrap().unwrap().length)
}

/// Passes bytes of the client in pieces of `size` bytes, and returns the bytes that are sent on.
fn pass(watch: &mut Handshake<'_>, bytes: &[u8], size: usize) -> Vec<u8> {
    let mut sent = Vec::new();
    for piece in bytes.chunks(size) {
        let instead = watch.up(piece);
        sent.extend(instead.unwrap_or_else(|| piece.to_vec()));
    }
    sent
}

fn see(watch: &mut Handshake<'_>, bytes: &[u8], size: usize) {
    for piece in bytes.chunks(size) {
        watch.down(piece);
    }
}

fn reason(watch: &Handshake<'_>) -> &'static str {
    watch.refused().map_or("", |(reason, _)| reason)
}

/// Returns a TLS record with type `kind` and content `body`.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, 3, 3], length.as_slice(), body].concat()
}

/// Claims: handshake-records
#[test]
fn handshakes_of_every_kind_pass_unchanged_at_every_cut() {
    let host = host();
    let after = record(HANDSHAKE, b"\x01 is not read any more");
    for said in [talk(TLS13, X25519), talk(TLS13, P256), talk(TLS12, P256)] {
        for size in [1, 2, 3, 5, 7, 64, 1 << 14] {
            let mut watch = watch(&host, &said[0]);
            for (number, piece) in said.iter().enumerate() {
                if number % 2 == 0 {
                    assert_eq!(pass(&mut watch, piece, size), *piece, "{number} by {size}");
                    assert!(!watch.server.has_chosen);
                } else {
                    see(&mut watch, piece, size);
                }
            }
            assert!(watch.server.has_chosen, "by {size}");
            assert_eq!(pass(&mut watch, &after, size), after);
            assert_eq!(reason(&watch), "");
        }
    }
}

#[test]
fn second_hello_of_another_name_is_refused_whenever_it_comes() {
    let host = host();
    let [first, retry, second, _] = retried();
    let second = renamed(&second);
    let ccs = record(CHANGE_CIPHER_SPEC, &[1]);
    let warning = record(ALERT, &[1, 0]);
    let early = record(APPLICATION_DATA, b"early data");
    for between in [
        vec![],
        ccs.clone(),
        warning,
        early.clone(),
        [early, ccs].concat(),
    ] {
        for (is_first_seen, size) in [
            (true, 1),
            (true, 9),
            (true, 1 << 14),
            (false, 1),
            (false, 1 << 14),
        ] {
            let mut watch = watch(&host, &first);
            assert_eq!(pass(&mut watch, &first, size), first);
            if is_first_seen {
                see(&mut watch, &retry, size);
            }
            assert_eq!(pass(&mut watch, &between, size), between);
            assert_eq!(pass(&mut watch, &second, size), b"");
            assert_eq!(reason(&watch), "name_mismatch");
            assert!(watch.is_over());
            // Later bytes of the server change nothing.
            see(&mut watch, &retry, size);
            assert_eq!(pass(&mut watch, b"more", size), b"");
        }
    }
    // All bytes arrive in one flight.
    let mut watch = watch(&host, &first);
    assert_eq!(
        pass(&mut watch, &[first.clone(), second].concat(), 1 << 14),
        first
    );
    assert_eq!(reason(&watch), "name_mismatch");
}

#[test]
fn what_is_no_second_hello_is_refused() {
    let host = host();
    let [first, retry, second, _] = retried();
    let message = &second[RECORD..];
    let mut server_hello = message.to_vec();
    server_hello[0] = SERVER_HELLO;
    let (start, rest) = message.split_at(40);
    let split = |between: &[u8]| {
        [
            record(HANDSHAKE, start),
            between.to_vec(),
            record(HANDSHAKE, rest),
        ]
        .concat()
    };
    for (next, expected) in [
        (record(HANDSHAKE, message), ""),
        (split(b""), ""),
        (split(&record(CHANGE_CIPHER_SPEC, &[1])), "client_hello"),
        (split(&record(ALERT, &[1, 0])), "client_hello"),
        (
            record(HANDSHAKE, &[message, message].concat()),
            "client_hello",
        ),
        (record(HANDSHAKE, &server_hello), "client_hello"),
        (record(HANDSHAKE, b""), "client_hello"),
        (record(24, b"heartbeat"), "client_hello"),
        (b"GET / HTTP/1.1\r\n".to_vec(), "client_hello"),
        (vec![0x80, 0x2e, 1, 3, 1], "client_hello"),
    ] {
        let mut watch = watch(&host, &first);
        pass(&mut watch, &first, 99);
        see(&mut watch, &retry, 99);
        let sent = pass(&mut watch, &next, 3);
        assert_eq!(reason(&watch), expected, "{next:?}");
        // Records of other types may have passed before the denial.
        assert_eq!(sent == next, expected.is_empty(), "{next:?}");
    }
    // The hello never ends.
    let mut watch = watch(&host, &first);
    pass(&mut watch, &first, 99);
    let endless = record(
        HANDSHAKE,
        &[&[CLIENT_HELLO, 0xff, 0xff, 0xff], vec![0; 9000].as_slice()].concat(),
    );
    for _ in 0..8 {
        pass(&mut watch, &endless, 4096);
    }
    assert_eq!(reason(&watch), "client_hello");
}

#[test]
fn server_that_requests_a_retry_or_does_not_use_tls_opens_nothing() {
    let host = host();
    let [first, retry, second, answer] = retried();
    // The server sends two HelloRetryRequests. The first is split across two records.
    let body = &retry[RECORD..RECORD + usize::from(u16::from_be_bytes([retry[3], retry[4]]))];
    let cut = [
        record(HANDSHAKE, &body[..20]),
        record(HANDSHAKE, &body[20..]),
    ]
    .concat();
    for server in [
        retry.clone(),
        cut,
        [retry.clone(), retry.clone()].concat(),
        record(HANDSHAKE, &[0, 0, 0, 0]),
        record(ALERT, &[2, 40]),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        // The ServerHello does not begin at the start of a record.
        [b"x".to_vec(), answer.clone()].concat(),
        record(APPLICATION_DATA, &answer),
        answer[..RECORD + CHOSEN - 1].to_vec(),
    ] {
        let mut watch = watch(&host, &first);
        pass(&mut watch, &first, 99);
        see(&mut watch, &server, 7);
        assert!(!watch.server.has_chosen, "{server:?}");
        assert_eq!(pass(&mut watch, &renamed(&second), 99), b"");
        assert_eq!(reason(&watch), "name_mismatch", "{server:?}");
    }
}
