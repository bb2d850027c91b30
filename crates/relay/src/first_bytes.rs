//! The client's end of a connection: reads its first bytes, sends denials, and closes it.
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::sniff::{Sniffed, sniff};
use super::state::Relay;

/// The first bytes of a client, and their protocol.
#[derive(Debug)]
pub(super) struct First {
    /// Protocol of the client.
    pub(super) spoken: Spoken,
    /// All bytes read so far.
    pub(super) bytes: Vec<u8>,
}

/// Protocol of a client, judged by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    /// A TLS handshake record.
    Tls,
    /// An HTTP/1 request.
    Http,
    /// Another protocol, with its label.
    Other(&'static str),
    /// Too few bytes before the timeout. The client may be waiting for the server.
    Silent,
    /// The client closed the connection without sending a byte.
    Closed,
}

impl Spoken {
    /// Returns the protocol for the flow report.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Other(label) => label,
            Self::Silent => "client_silent",
            Self::Closed => "empty",
        }
    }

    /// Returns the reason word for a connection that carries neither TLS nor HTTP.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Tls | Self::Http | Self::Other(_) => "not_tls_or_http",
            Self::Silent => "client_silent",
            Self::Closed => "client_closed",
        }
    }
}

/// Reads until the bytes identify the protocol, for at most `patience`.
pub(super) async fn read_first(
    stream: &mut TcpStream,
    mut bytes: Vec<u8>,
    patience: Duration,
) -> First {
    let identified = async {
        loop {
            match sniff(&bytes) {
                Sniffed::Tls => return Spoken::Tls,
                Sniffed::Http => return Spoken::Http,
                Sniffed::Other(label) => return Spoken::Other(label),
                Sniffed::More => {}
            }
            bytes.reserve(4096);
            match stream.read_buf(&mut bytes).await {
                Ok(read) if read > 0 => {}
                Ok(_) | Err(_) if bytes.is_empty() => return Spoken::Closed,
                Ok(_) | Err(_) => return Spoken::Other("raw"),
            }
        }
    };
    let spoken = timeout(patience, identified)
        .await
        .unwrap_or(Spoken::Silent);
    First { spoken, bytes }
}

/// A fatal TLS alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Alert {
    /// The destination is denied, or the `ClientHello` contains an encrypted one.
    AccessDenied = 49,
    /// The `ClientHello` cannot be parsed or does not arrive in time.
    DecodeError = 50,
    /// The mediator or the destination failed.
    InternalError = 80,
    /// The SNI does not match the destination.
    UnrecognizedName = 112,
}

impl Alert {
    /// Returns the TLS record of this alert: type alert, version TLS 1.2, length 2, level fatal.
    pub(super) fn record(self) -> [u8; 7] {
        [21, 3, 3, 0, 2, 2, self as u8]
    }
}

/// Sends a TLS alert and closes the connection.
pub(super) async fn refuse_tls(relay: &Relay, mut stream: TcpStream, alert: Alert) {
    if stream.write_all(&alert.record()).await.is_ok() {
        close_gently(relay, stream).await;
    }
}

/// Sends an HTTP error and closes the connection.
pub(super) async fn refuse_http(relay: &Relay, mut stream: TcpStream, status: u16, reason: &str) {
    if stream
        .write_all(page(status, reason).as_bytes())
        .await
        .is_ok()
    {
        close_gently(relay, stream).await;
    }
}

/// Sends a TLS alert or an HTTP error if the client uses one of these protocols, and closes the connection.
pub(super) async fn refuse(relay: &Relay, stream: TcpStream, spoken: Spoken, reason: &str) {
    match spoken {
        Spoken::Tls => refuse_tls(relay, stream, Alert::AccessDenied).await,
        Spoken::Http => refuse_http(relay, stream, 403, reason).await,
        Spoken::Other("h2c") => refuse_http(relay, stream, 400, reason).await,
        Spoken::Other(_) | Spoken::Silent | Spoken::Closed => {}
    }
}

/// Returns the text that a denied HTTP client receives.
pub(super) fn line(reason: &str) -> String {
    format!("egress: denied by the relay: {reason}\n")
}

fn page(status: u16, reason: &str) -> String {
    let phrase = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Refused");
    let body = line(reason);
    format!(
        "HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nX-Egress-Refused: {reason}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Closes a connection in such a way that the client can still read everything that was sent. If a socket is closed
/// with unread bytes, the kernel resets the connection, and the client may lose bytes that it has not read yet.
pub(super) async fn close_gently(relay: &Relay, mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let linger = relay.config.limits.linger;
    // If an answer precedes the end of the request's body, the client may continue to send for a while before it reads
    // the answer.
    let drain = async {
        let mut room = vec![0; 16 * 1024];
        let mut left = MOST_UNWANTED;
        while left > 0 {
            match timeout(linger, stream.read(&mut room)).await {
                Ok(Ok(read @ 1..)) => left = left.saturating_sub(read),
                _ => return,
            }
        }
        sleep(linger).await;
    };
    tokio::select! {
        () = drain => {}
        // The timeout bounds the time for a client that sends slowly and endlessly.
        () = sleep(linger.saturating_mul(LINGERS)) => {}
        () = relay.stopped() => {}
    }
}

/// Maximum number of bytes that are read and discarded. The kernel programs count these bytes as
/// sent, but no flow of the relay includes them. The number must therefore be small compared with
/// the unread bytes that a socket's buffers may hold.
const MOST_UNWANTED: usize = 8 << 20;

/// Total time to close a connection, as a multiple of the linger time.
const LINGERS: u32 = 5;
