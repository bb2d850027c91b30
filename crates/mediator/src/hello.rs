//! Checks that the first bytes of a tunnel are a TLS `ClientHello` for the requested host.
//!
//! Claims: name-match
use std::time::Duration;

use egress_http::client_hello::{Unread, receive};
use egress_policy::Host;
use tokio::io::AsyncRead;
use tokio::time::timeout;

/// Time for a client to send its `ClientHello`.
const HELLO_LIMIT: Duration = Duration::from_secs(5);

/// Reads until the hello is complete, and judges its server name. At the start, `buffer` may contain bytes that came
/// with the request. On success, `buffer` contains all bytes that were read, and the caller must send these bytes to
/// the origin.
///
/// For an encrypted hello, the outer name is judged.
///
/// # Errors
/// Returns the reason word of the outcome: `not_tls`, `sni_mismatch`, or `client_silent`.
pub(super) async fn check(
    client: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    host: &Host,
) -> Result<(), &'static str> {
    match timeout(HELLO_LIMIT, receive(client, buffer)).await {
        Ok(Ok(hello)) => matches_host(hello.sni.as_deref(), host),
        Ok(Err(Unread::NotAHello)) => Err("not_tls"),
        Ok(Err(Unread::Closed)) | Err(_) => Err("client_silent"),
    }
}

fn matches_host(name: Option<&[u8]>, host: &Host) -> Result<(), &'static str> {
    let agrees = match (name, host) {
        // RFC 6066 does not permit an address as the server name.
        (None, Host::Ip(_)) => true,
        (Some(name), Host::Name(_)) => {
            std::str::from_utf8(name).is_ok_and(|name| Host::parse(name).as_ref() == Ok(host))
        }
        (None, Host::Name(_)) | (Some(_), Host::Ip(_)) => false,
    };
    if agrees { Ok(()) } else { Err("sni_mismatch") }
}
