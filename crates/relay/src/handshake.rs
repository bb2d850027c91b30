//! Checks the handshake inside a tunnel until the `ServerHello`.
//!
//! A TLS 1.3 server may answer the first `ClientHello` with a `HelloRetryRequest` (RFC 8446, section 4.1.4). The client
//! then sends another `ClientHello`, which could name another server. Until the `ServerHello`, a handshake record of
//! the client can only be part of a `ClientHello`. The relay therefore judges every later hello in the same way as the
//! first hello, before it sends any byte of the later hello on. After the `ServerHello`, a server that follows the
//! standard does not accept another `ClientHello` in plain text.
//!
//! Claims: second-hello
use egress_http::client_hello::{self, MOST, NotAHello};

use super::authority::Host;
use super::copy::Watch;
use super::first_bytes::Alert;
use super::hello::judge;

// Record types (RFC 8446, section 5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Type of the handshake message `server_hello`.
const SERVER_HELLO: u8 = 2;
/// Length of the start of a `ServerHello`: message header, version, and random.
const CHOSEN: usize = 4 + 2 + 32;

/// The random of a `HelloRetryRequest` (RFC 8446, section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// The handshake of one tunnel.
#[derive(Debug)]
pub(super) struct Handshake<'t> {
    host: &'t Host,
    /// Number of client bytes that pass without a check: the bytes of the first hello, which was judged before, or of a
    /// record of another type.
    unchecked: usize,
    /// Client bytes that are not judged yet.
    unjudged: Vec<u8>,
    server: Server,
    refused: Option<(&'static str, Alert)>,
}

impl<'t> Handshake<'t> {
    /// Starts the check for a tunnel to `host`. The first `judged` bytes of the client are its first hello.
    pub(super) fn of(host: &'t Host, judged: usize) -> Self {
        Self {
            host,
            unchecked: judged,
            unjudged: Vec::new(),
            server: Server::default(),
            refused: None,
        }
    }

    /// Returns the reason word and the alert if a later hello of the client was denied.
    pub(super) fn refused(&self) -> Option<(&'static str, Alert)> {
        self.refused
    }

    /// Returns how many bytes from the start of `unjudged` may be sent on. Returns 0 if more bytes are needed or a
    /// hello is denied.
    fn allowed(&mut self) -> usize {
        let here = self.unchecked.min(self.unjudged.len());
        if here > 0 {
            self.unchecked -= here;
            return here;
        }
        match self.unjudged.as_slice() {
            [HANDSHAKE, ..] => match client_hello::parse(&self.unjudged) {
                Ok(Some(hello)) => {
                    self.refused = judge(&hello, self.host);
                    if self.refused.is_none() {
                        return hello.length;
                    }
                }
                Ok(None) if self.unjudged.len() < MOST => {}
                Ok(None) | Err(NotAHello) => self.refused = Some(UNREADABLE),
            },
            [
                CHANGE_CIPHER_SPEC | ALERT | APPLICATION_DATA,
                _,
                _,
                high,
                low,
                ..,
            ] => {
                self.unchecked = RECORD + usize::from(u16::from_be_bytes([*high, *low]));
                return self.allowed();
            }
            [] | [CHANGE_CIPHER_SPEC | ALERT | APPLICATION_DATA, ..] => {}
            _ => self.refused = Some(UNREADABLE),
        }
        0
    }
}

/// Length of a record header.
const RECORD: usize = 5;
/// Denial of bytes that are not a `ClientHello`.
const UNREADABLE: (&str, Alert) = ("client_hello", Alert::DecodeError);

impl Watch for Handshake<'_> {
    fn up(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.server.has_chosen && self.unjudged.is_empty() {
            return None;
        }
        self.unjudged.extend_from_slice(bytes);
        if self.server.has_chosen {
            return Some(std::mem::take(&mut self.unjudged));
        }
        let mut go_on = Vec::new();
        while self.refused.is_none() {
            let length = self.allowed();
            if length == 0 {
                break;
            }
            go_on.extend(self.unjudged.drain(..length));
        }
        Some(go_on)
    }

    fn down(&mut self, bytes: &[u8]) {
        self.server.see(bytes);
    }

    fn is_over(&self) -> bool {
        self.refused.is_some()
    }
}

/// Progress of the server in the handshake.
#[derive(Debug, Default)]
struct Server {
    /// The server has sent its `ServerHello`.
    has_chosen: bool,
    /// The received part of an incomplete record header.
    header: Vec<u8>,
    /// Remaining bytes of the record.
    in_record: usize,
    is_handshake: bool,
    /// The start of a handshake message.
    message: Vec<u8>,
    /// Remaining bytes of the message after its start.
    in_message: usize,
    /// The server does not use TLS, so its bytes are no longer parsed.
    is_lost: bool,
}

impl Server {
    fn see(&mut self, mut bytes: &[u8]) {
        while !(bytes.is_empty() || self.has_chosen || self.is_lost) {
            if self.in_record == 0 {
                let (header, rest) = bytes.split_at(bytes.len().min(RECORD - self.header.len()));
                self.header.extend_from_slice(header);
                bytes = rest;
                if let [kind, major, _, high, low] = *self.header.as_slice() {
                    self.header.clear();
                    self.in_record = usize::from(u16::from_be_bytes([high, low]));
                    self.is_handshake = kind == HANDSHAKE;
                    self.is_lost =
                        major != 3 || !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&kind);
                }
                continue;
            }
            let (part, rest) = bytes.split_at(bytes.len().min(self.in_record));
            self.in_record -= part.len();
            bytes = rest;
            if self.is_handshake {
                self.read(part);
            }
        }
    }

    /// Parses a part of the handshake. Handshake messages need not begin at the start of a record.
    fn read(&mut self, mut part: &[u8]) {
        while !(part.is_empty() || self.has_chosen) {
            if self.in_message > 0 {
                let (_, rest) = part.split_at(part.len().min(self.in_message));
                self.in_message -= part.len() - rest.len();
                part = rest;
                continue;
            }
            let wanted = match self.message.as_slice() {
                [SERVER_HELLO, ..] => CHOSEN,
                _ => 4,
            };
            let (more, rest) = part.split_at(part.len().min(wanted - self.message.len()));
            self.message.extend_from_slice(more);
            part = rest;
            self.end_of_start();
        }
    }

    /// Judges a handshake message when enough of its start has been received.
    fn end_of_start(&mut self) {
        let [kind, high, middle, low, body @ ..] = self.message.as_slice() else {
            return;
        };
        if *kind == SERVER_HELLO && self.message.len() < CHOSEN {
            return;
        }
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        self.has_chosen = *kind == SERVER_HELLO && body.get(2..) != Some(&RETRY);
        self.in_message = length.saturating_sub(body.len());
        self.message.clear();
    }
}

#[cfg(test)]
#[path = "handshake/tests.rs"]
mod tests;
