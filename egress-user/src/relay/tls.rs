//! Serves one TLS connection: its SNI is judged before the mediator hears of it.
use rustls::server::Acceptor;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::authority::{Host, Target};
use super::first::{Alert, refuse_tls};
use super::report::{Flow, Verdict};
use super::serve::Relay;
use super::tunnel;

/// Most bytes of a `ClientHello`; post-quantum key shares make two kilobytes of it.
const MAX_HELLO: usize = 64 * 1024;

/// Judges the `ClientHello` that begins with `bytes` and, if it is for `target`, opens the tunnel.
pub(super) async fn serve(
    relay: &Relay,
    mut stream: TcpStream,
    mut bytes: Vec<u8>,
    target: &Target,
    mut flow: Flow,
) {
    flow.target(target);
    let read = read_hello(&mut stream, &mut bytes);
    let hello = match timeout(relay.config.limits.first_bytes, read).await {
        Ok(Some(hello)) => hello,
        Ok(None) => {
            flow.verdict(Verdict::Refused, "client_hello");
            return refuse_tls(relay, stream, Alert::DecodeError).await;
        }
        Err(_) => {
            flow.verdict(Verdict::Refused, "client_hello_timeout");
            return refuse_tls(relay, stream, Alert::DecodeError).await;
        }
    };
    if hello.is_encrypted {
        flow.verdict(Verdict::Refused, "encrypted_client_hello");
        return refuse_tls(relay, stream, Alert::AccessDenied).await;
    }
    if !hello.is_for(&target.host) {
        flow.verdict(Verdict::Refused, "name_mismatch");
        return refuse_tls(relay, stream, Alert::UnrecognizedName).await;
    }
    flow.asked("connect", "CONNECT", &target.to_string());
    match tunnel::open(relay, target, Some(&stream)).await {
        Ok(opened) => {
            flow.status(200);
            tunnel::run(relay, stream, bytes, opened, flow).await;
        }
        Err(denied) => {
            let alert = match denied.verdict {
                Verdict::Blocked => Alert::AccessDenied,
                Verdict::Failed
                | Verdict::Refused
                | Verdict::Forwarded
                | Verdict::Answered
                | Verdict::Unfinished => Alert::InternalError,
            };
            denied.report(&mut flow);
            refuse_tls(relay, stream, alert).await;
        }
    }
}

/// What a `ClientHello` says about the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The name in the SNI, byte for byte: rustls cuts a trailing dot off and leaves addresses out.
    sni: Option<Vec<u8>>,
    /// Whether it holds another hello, encrypted (ECH): its name is the one that the server goes by, and
    /// nobody on the way can read it. What only looks like one cannot be told from it.
    is_encrypted: bool,
}

/// The extension `encrypted_client_hello`.
const ENCRYPTED: [u8; 2] = [0xfe, 0x0d];

impl Hello {
    /// Whether the SNI is `host`; a literal address wants none.
    pub fn is_for(&self, host: &Host) -> bool {
        match (host, &self.sni) {
            (Host::Name(name), Some(sni)) => sni.eq_ignore_ascii_case(name.as_bytes()),
            (Host::Ip(_), None) => true,
            (Host::Name(_), None) | (Host::Ip(_), Some(_)) => false,
        }
    }
}

/// Reads on until the `ClientHello` in `bytes` is complete; what follows it stays in `bytes` too.
async fn read_hello(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Hello> {
    loop {
        match parse_hello(bytes) {
            Ok(Some(hello)) => return Some(hello),
            Ok(None) if bytes.len() < MAX_HELLO => {}
            Ok(None) | Err(NotAHello) => return None,
        }
        bytes.reserve(4096);
        if !matches!(stream.read_buf(bytes).await, Ok(read) if read > 0) {
            return None;
        }
    }
}

/// The bytes are not the start of a TLS connection that rustls would accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAHello;

/// Reads the `ClientHello` at the start of a connection; `None` if there is more to come. Pure.
///
/// # Errors
/// It is none, or not one that rustls takes.
pub fn parse_hello(bytes: &[u8]) -> Result<Option<Hello>, NotAHello> {
    let mut acceptor = Acceptor::default();
    let mut handshake = Vec::new();
    let mut rest = bytes;
    // Record by record: early data behind the hello must not be fed to the acceptor.
    while let [kind, major, minor, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind != 22 || *major != 3 || *minor > 4 || length == 0 || length > 1 << 14 {
            return Err(NotAHello);
        }
        let Some((body, next)) = after.split_at_checked(length) else {
            return Ok(None);
        };
        handshake.extend_from_slice(body);
        let (mut record, _) = rest.split_at(rest.len() - next.len());
        while !record.is_empty() {
            if acceptor.read_tls(&mut record).is_err() {
                return Err(NotAHello);
            }
        }
        match acceptor.accept() {
            Ok(Some(_)) => {
                return read_names(&handshake).map(Some).ok_or(NotAHello);
            }
            Ok(None) => {}
            Err(_) => return Err(NotAHello),
        }
        rest = next;
    }
    Ok(None)
}

/// What the extensions of a complete `ClientHello` (handshake header included) say.
fn read_names(handshake: &[u8]) -> Option<Hello> {
    let mut hello = Hello {
        sni: None,
        is_encrypted: false,
    };
    // Header 4, version 2, random 32; then session id, cipher suites, compression methods.
    let (_, rest) = handshake.split_at_checked(4 + 2 + 32)?;
    let (_, rest) = split_vector(rest, 1)?;
    let (_, rest) = split_vector(rest, 2)?;
    let (_, rest) = split_vector(rest, 1)?;
    if rest.is_empty() {
        return Some(hello);
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
            if hello.sni.replace(name.to_vec()).is_some() {
                return None;
            }
        }
        hello.is_encrypted |= kind == ENCRYPTED;
        extensions = next;
    }
    Some(hello)
}

/// Splits a vector with a length of `width` bytes off.
fn split_vector(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(width)?;
    let length = length
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

#[cfg(test)]
#[path = "tls/tests.rs"]
mod tests;
