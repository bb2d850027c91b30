//! Parses the `ClientHello` of a TLS client. The relay and the built-in mediator use the same parser.
use std::io;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Maximum length of a `ClientHello`. Post-quantum key shares need about two kilobytes.
pub const MOST: usize = 64 * 1024;

/// Length of the header of a handshake message.
const MESSAGE: usize = 4;
/// Type of the handshake message `client_hello`.
const CLIENT_HELLO: u8 = 1;
/// Type of the extension `encrypted_client_hello`.
const ENCRYPTED: [u8; 2] = [0xfe, 0x0d];
/// Types of the extension `encrypted_client_hello` in deployed drafts: `encrypted_server_name`, and ECH from draft 8 to
/// draft 10.
const ENCRYPTED_BEFORE: [[u8; 2]; 4] = [[0xff, 0xce], [0xfe, 0x08], [0xfe, 0x09], [0xfe, 0x0a]];

/// The parts of a `ClientHello` that name the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Name in the SNI, byte for byte. rustls would remove a trailing dot and ignore addresses.
    pub sni: Option<Vec<u8>>,
    /// Whether the hello contains another, encrypted hello (ECH). Only the server can decrypt the encrypted hello, and
    /// the server uses the name in that hello. An extension that only imitates ECH (GREASE) cannot be distinguished
    /// from ECH.
    pub is_encrypted: bool,
    /// Length of the hello's records, in bytes.
    pub length: usize,
}

/// The bytes are not a `ClientHello` that rustls accepts, or the last record of the hello contains further bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAHello;

/// Why no hello was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// The client sent bytes that are not a `ClientHello`.
    NotAHello,
    /// The client closed the connection.
    Closed,
}

/// Reads until the `ClientHello` in `bytes` is complete. Bytes after the hello stay in `bytes` too.
///
/// # Errors
/// Fails if the client sends bytes that are not a `ClientHello`, or closes the connection first.
pub async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> Result<Hello, Unread> {
    loop {
        match parse(bytes) {
            Ok(Some(hello)) => return Ok(hello),
            Ok(None) if bytes.len() < MOST => {}
            Ok(None) | Err(NotAHello) => return Err(Unread::NotAHello),
        }
        bytes.reserve(4096);
        let read: io::Result<usize> = stream.read_buf(bytes).await;
        if !matches!(read, Ok(read) if read > 0) {
            return Err(Unread::Closed);
        }
    }
}

/// Parses the `ClientHello` at the start of `bytes`. Returns `None` if the hello is incomplete. Performs no I/O.
///
/// # Errors
/// Fails if the bytes are not a `ClientHello`, if rustls does not accept it, or if its last
/// record contains further bytes. A server would parse such bytes as the client's next message.
pub fn parse(bytes: &[u8]) -> Result<Option<Hello>, NotAHello> {
    let mut handshake = Vec::new();
    let mut rest = bytes;
    // Parse record by record, because early data after the hello is not part of the hello.
    while let [kind, major, minor, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind != 22 || *major != 3 || *minor > 4 || length == 0 || length > 1 << 14 {
            return Err(NotAHello);
        }
        let Some((body, next)) = after.split_at_checked(length) else {
            return Ok(None);
        };
        handshake.extend_from_slice(body);
        rest = next;
        match beyond_message(&handshake)? {
            None => {}
            Some(0) => {
                let length = bytes.len() - rest.len();
                let records = bytes.get(..length).ok_or(NotAHello)?;
                let (sni, is_encrypted) = read_names(&handshake).ok_or(NotAHello)?;
                return is_accepted(records)
                    .then_some(Some(Hello {
                        sni,
                        is_encrypted,
                        length,
                    }))
                    .ok_or(NotAHello);
            }
            Some(_) => return Err(NotAHello),
        }
    }
    Ok(None)
}

/// Returns whether rustls accepts these records as a complete `ClientHello`.
fn is_accepted(mut records: &[u8]) -> bool {
    let mut acceptor = Acceptor::default();
    loop {
        match acceptor.accept() {
            Ok(Some(_)) => return true,
            Ok(None) if records.is_empty() => return false,
            Ok(None) => {}
            Err(_) => return false,
        }
        if acceptor.read_tls(&mut records).is_err() {
            return false;
        }
    }
}

/// Returns the number of bytes after the first message, or `None` while the message is incomplete.
fn beyond_message(handshake: &[u8]) -> Result<Option<usize>, NotAHello> {
    if handshake.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(NotAHello);
    }
    let [_, high, middle, low, body @ ..] = handshake else {
        return Ok(None);
    };
    let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
    if length > MOST {
        return Err(NotAHello);
    }
    Ok(body.len().checked_sub(length))
}

/// Returns the SNI of a complete `ClientHello` (with its handshake header), and whether the hello
/// contains an encrypted hello.
fn read_names(handshake: &[u8]) -> Option<(Option<Vec<u8>>, bool)> {
    let mut sni = None;
    let mut is_encrypted = false;
    // The hello begins with the header, a version of two bytes, and a random of 32 bytes. The session id, the cipher
    // suites, and the compression methods follow.
    let (_, rest) = handshake.split_at_checked(MESSAGE + 2 + 32)?;
    let (_, rest) = split_vector(rest, 1)?;
    let (_, rest) = split_vector(rest, 2)?;
    let (_, rest) = split_vector(rest, 1)?;
    if rest.is_empty() {
        return Some((sni, is_encrypted));
    }
    let (mut extensions, _) = split_vector(rest, 2)?;
    while !extensions.is_empty() {
        let (kind, rest) = extensions.split_at_checked(2)?;
        let (body, next) = split_vector(rest, 2)?;
        if kind == [0, 0] {
            let ([0, name @ ..], []) = split_vector(body, 2)? else {
                return None;
            };
            let (name, []) = split_vector(name, 2)? else {
                return None;
            };
            if sni.replace(name.to_vec()).is_some() {
                return None;
            }
        }
        is_encrypted |= kind == ENCRYPTED || ENCRYPTED_BEFORE.iter().any(|before| kind == before);
        extensions = next;
    }
    Some((sni, is_encrypted))
}

/// Splits off a vector whose length field has `width` bytes.
fn split_vector(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(width)?;
    let length = length
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

#[cfg(test)]
#[path = "client_hello/tests.rs"]
mod tests;
