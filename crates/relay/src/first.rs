//! The client's end of a connection: what it says first, how it is refused, and how it is closed.
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::sniff::{Sniffed, sniff};
use super::state::Relay;

/// What the client said first.
#[derive(Debug)]
pub(super) struct First {
    /// What it speaks.
    pub(super) spoken: Spoken,
    /// All bytes read so far.
    pub(super) bytes: Vec<u8>,
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    /// A TLS handshake record.
    Tls,
    /// An HTTP/1 request.
    Http,
    /// Something else, by label.
    Other(&'static str),
    /// Nothing, or too little to tell, for too long: it may be waiting for the server.
    Silent,
    /// Nothing: it closed the connection.
    Closed,
}

impl Spoken {
    /// The protocol of the flow report.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Other(label) => label,
            Self::Silent => "client_silent",
            Self::Closed => "empty",
        }
    }

    /// Why it is refused where only TLS and HTTP are served.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Tls | Self::Http | Self::Other(_) => "not_tls_or_http",
            Self::Silent => "client_silent",
            Self::Closed => "client_closed",
        }
    }
}

/// Reads until the protocol is told, for at most `patience`.
pub(super) async fn read_first(
    stream: &mut TcpStream,
    mut bytes: Vec<u8>,
    patience: Duration,
) -> First {
    let told = async {
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
    let spoken = timeout(patience, told).await.unwrap_or(Spoken::Silent);
    First { spoken, bytes }
}

/// A fatal TLS alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Alert {
    /// What was asked for is not allowed.
    AccessDenied = 49,
    /// The `ClientHello` cannot be read.
    DecodeError = 50,
    /// The mediator or what lies behind it failed.
    InternalError = 80,
    /// The SNI is not the name that was asked for.
    UnrecognizedName = 112,
}

impl Alert {
    /// The record: alert, version TLS 1.2 as in every first flight, two bytes, fatal.
    pub(super) fn record(self) -> [u8; 7] {
        [21, 3, 3, 0, 2, 2, self as u8]
    }
}

/// Refuses in TLS: the alert, then the end.
pub(super) async fn refuse_tls(relay: &Relay, mut stream: TcpStream, alert: Alert) {
    if stream.write_all(&alert.record()).await.is_ok() {
        close_gently(relay, stream).await;
    }
}

/// Refuses in HTTP: one answer, then the end.
pub(super) async fn refuse_http(relay: &Relay, mut stream: TcpStream, status: u16, reason: &str) {
    if stream
        .write_all(page(status, reason).as_bytes())
        .await
        .is_ok()
    {
        close_gently(relay, stream).await;
    }
}

/// Refuses a client in whatever it speaks.
pub(super) async fn refuse(relay: &Relay, stream: TcpStream, spoken: Spoken, reason: &str) {
    match spoken {
        Spoken::Tls => refuse_tls(relay, stream, Alert::AccessDenied).await,
        Spoken::Http => refuse_http(relay, stream, 403, reason).await,
        Spoken::Other("h2c") => refuse_http(relay, stream, 400, reason).await,
        Spoken::Other(_) | Spoken::Silent | Spoken::Closed => {}
    }
}

/// The one line that a refused HTTP client reads.
pub(super) fn line(reason: &str) -> String {
    format!("egress: refused by the relay: {reason}\n")
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

/// Closes a connection so that the client sees what was sent last: a socket closed with unread
/// bytes is reset, and a reset discards what the client has not read yet.
pub(super) async fn close_gently(relay: &Relay, mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let linger = relay.config.limits.linger;
    // An answer may come before the end of a body: the client then goes on sending for a while, and reads late.
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
        // The client sends slowly and without an end; it had its time.
        () = sleep(linger.saturating_mul(LINGERS)) => {}
        () = relay.stopped() => {}
    }
}

/// How much of what nobody wants is read. The kernel counts it as sent, and no row of the relay has it, so it must stay
/// small beside what may sit unread in a socket's buffers.
const MOST_UNWANTED: usize = 8 << 20;

/// How many times the pause of a client that still sends may take in all.
const LINGERS: u32 = 5;
