//! Serves one TLS connection: its SNI is judged before the mediator hears of it, and again in every later hello.
use egress_http::client_hello::{self, Hello};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::authority::{Host, Target};
use super::first::{Alert, refuse_tls};
use super::handshake::Handshake;
use super::report::{Flow, Verdict};
use super::serve::Relay;
use super::tunnel;

/// Judges the `ClientHello` that begins with `bytes` and, if it is for `target`, opens the tunnel.
pub(super) async fn serve(
    relay: &Relay,
    mut stream: TcpStream,
    mut bytes: Vec<u8>,
    target: &Target,
    mut flow: Flow,
) {
    flow.target(target);
    let read = client_hello::receive(&mut stream, &mut bytes);
    let hello = match timeout(relay.config.limits.first_bytes, read).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(_)) => {
            flow.verdict(Verdict::Refused, "client_hello");
            return refuse_tls(relay, stream, Alert::DecodeError).await;
        }
        Err(_) => {
            flow.verdict(Verdict::Refused, "client_hello_timeout");
            return refuse_tls(relay, stream, Alert::DecodeError).await;
        }
    };
    if let Some((reason, alert)) = judge(&hello, &target.host) {
        flow.verdict(Verdict::Refused, reason);
        return refuse_tls(relay, stream, alert).await;
    }
    flow.asked("connect", "CONNECT", &target.to_string());
    match tunnel::open(relay, target, Some(&stream)).await {
        Ok(opened) => {
            flow.status(200);
            let handshake = Handshake::of(&target.host, hello.length);
            tunnel::run(relay, stream, bytes, opened, handshake, flow).await;
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

/// Why a hello is refused, as the reason word and the alert; nothing if it is for `host`. A literal address wants no SNI.
pub(super) fn judge(hello: &Hello, host: &Host) -> Option<(&'static str, Alert)> {
    let is_for = match (host, &hello.sni) {
        (Host::Name(name), Some(sni)) => sni.eq_ignore_ascii_case(name.as_bytes()),
        (Host::Ip(_), None) => true,
        (Host::Name(_), None) | (Host::Ip(_), Some(_)) => false,
    };
    if hello.is_encrypted {
        Some(("encrypted_client_hello", Alert::AccessDenied))
    } else if !is_for {
        Some(("name_mismatch", Alert::UnrecognizedName))
    } else {
        None
    }
}

#[cfg(test)]
#[path = "tls/tests.rs"]
mod tests;
