//! Serves one TLS connection. The relay judges the SNI before it sends anything to the mediator, and again in each
//! further `ClientHello` before the `ServerHello`.
use egress_http::client_hello;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::authority::Target;
use super::first_bytes::{Alert, Spoken, read_first, refuse, refuse_tls};
use super::handshake::Handshake;
use super::hello::judge;
use super::report::{Flow, FlowVerdict};
use super::state::Relay;
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
            flow.verdict(FlowVerdict::Refused, "client_hello");
            return refuse_tls(relay, stream, Alert::DecodeError).await;
        }
        Err(_) => {
            flow.verdict(FlowVerdict::Refused, "client_hello_timeout");
            return refuse_tls(relay, stream, Alert::DecodeError).await;
        }
    };
    if let Some((reason, alert)) = judge(&hello, &target.host) {
        flow.verdict(FlowVerdict::Refused, reason);
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
                FlowVerdict::Blocked => Alert::AccessDenied,
                FlowVerdict::Failed
                | FlowVerdict::Refused
                | FlowVerdict::Forwarded
                | FlowVerdict::Answered
                | FlowVerdict::Unfinished => Alert::InternalError,
            };
            denied.report(&mut flow);
            refuse_tls(relay, stream, alert).await;
        }
    }
}

/// Serves the bytes inside a tunnel to `target` that the command requested with CONNECT. The bytes
/// must be TLS for that name.
pub(super) async fn inside(
    relay: &Relay,
    mut stream: TcpStream,
    first: Vec<u8>,
    target: &Target,
    flow: Flow,
) {
    let first = read_first(&mut stream, first, relay.config.limits.first_bytes).await;
    match first.spoken {
        Spoken::Tls => serve(relay, stream, first.bytes, target, flow).await,
        Spoken::Closed => flow.failed("client_closed"),
        Spoken::Silent => flow.refused("client_silent"),
        Spoken::Http | Spoken::Other(_) => {
            refuse(relay, stream, first.spoken, "not_tls").await;
            flow.refused("not_tls");
        }
    }
}
