//! The first bytes of a tunnel: a TLS `ClientHello` for the host that was asked for, or nothing.
use std::io::{self, Read};
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::policy::Host;

/// How long a client may take to say hello.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// More than any hello needs, post-quantum key shares and padding included.
const MAX_HELLO: usize = 64 << 10;

/// Reads until the hello is complete and judges its server name. On success `buffer` holds all
/// bytes read, which go to the origin; before, it may hold bytes that came with the request.
///
/// An encrypted hello shows its outer name, which is then the one that counts.
///
/// # Errors
/// The reason word of the outcome: `not_tls`, `sni_mismatch`, `client_silent`.
pub(super) async fn check(
    client: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    host: &Host,
) -> Result<(), &'static str> {
    match timeout(HELLO_LIMIT, read_name(client, buffer)).await {
        Ok(Ok(name)) => matches_host(name.as_deref(), host),
        Ok(Err(reason)) => Err(reason),
        Err(_elapsed) => Err("client_silent"),
    }
}

async fn read_name(
    client: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Result<Option<String>, &'static str> {
    let mut acceptor = Acceptor::default();
    let mut seen = 0;
    loop {
        let fresh = buffer.get(seen..).unwrap_or_default();
        if !fresh.is_empty() {
            seen = buffer.len();
            if let Some(hello) = feed(&mut acceptor, fresh)? {
                return Ok(hello.name);
            }
        }
        if buffer.len() >= MAX_HELLO {
            return Err("not_tls");
        }
        buffer.reserve(4096);
        let read = client
            .read_buf(buffer)
            .await
            .map_err(|_reset| "client_silent")?;
        if read == 0 {
            return Err("client_silent");
        }
    }
}

/// A complete hello, with the server name it shows.
struct Hello {
    name: Option<String>,
}

fn feed(acceptor: &mut Acceptor, mut fresh: &[u8]) -> Result<Option<Hello>, &'static str> {
    while !fresh.is_empty() {
        let source: &mut dyn Read = &mut fresh;
        match acceptor.read_tls(source) {
            Ok(0) => return Err("not_tls"),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_full) => return Err("not_tls"),
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                return Ok(Some(Hello { name }));
            }
            Ok(None) => {}
            Err(_not_a_hello) => return Err("not_tls"),
        }
    }
    Ok(None)
}

fn matches_host(name: Option<&str>, host: &Host) -> Result<(), &'static str> {
    let agrees = match (name, host) {
        // RFC 6066 has no server name for an address.
        (None, Host::Ip(_)) => true,
        (Some(name), Host::Name(_)) => Host::parse(name).as_ref() == Ok(host),
        (None, Host::Name(_)) | (Some(_), Host::Ip(_)) => false,
    };
    if agrees { Ok(()) } else { Err("sni_mismatch") }
}
