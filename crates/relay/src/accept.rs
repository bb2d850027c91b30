//! Serves one connection of the command, either a redirected connection or one to the proxy port.
//!
//! Claims: ports
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::authority::Host;
use super::first_bytes::{Spoken, read_first, refuse};
use super::http::{self, Mode};
use super::state::Relay;
use super::tls;

/// Serves one redirected connection: checks its port and its protocol, and carries it to the mediator or denies it.
pub(super) async fn transparent(relay: Arc<Relay>, mut stream: TcpStream, peer: SocketAddr) {
    // `peer_addr` fails with ENOTCONN once the TCP state is CLOSE.
    let is_open = || stream.peer_addr().is_ok();
    let (origin, orig_dst) = match relay.destinations.take(peer, is_open) {
        Ok(found) => found,
        Err(discarded) => {
            discarded.report(&relay.reporter).await;
            return;
        }
    };
    let mut flow = relay.reporter.flow(origin, "raw").await;
    let target = relay.target(Host::Ip(orig_dst.ip()), orig_dst.port());
    let refusal = match &target {
        Ok(target) => {
            flow.target(target);
            (!relay.allows_port(target.port)).then_some("port_not_allowed")
        }
        Err(reason) => Some(*reason),
    };
    let limits = &relay.config.limits;
    let patience = if refusal.is_some() {
        limits.refused_first_bytes
    } else {
        limits.first_bytes
    };
    let first = read_first(&mut stream, Vec::new(), patience).await;
    flow.protocol(first.spoken.label());
    let target = match (target, refusal) {
        (Ok(target), None) => target,
        (_, refusal) => {
            let reason = refusal.unwrap_or("refused");
            refuse(&relay, stream, first.spoken, reason).await;
            flow.refused(reason);
            return;
        }
    };
    match first.spoken {
        Spoken::Tls => tls::serve(&relay, stream, first.bytes, &target, flow).await,
        Spoken::Http => {
            let mode = Mode::Transparent(target);
            http::serve(relay, stream, &first.bytes, mode, origin, Some(flow)).await;
        }
        Spoken::Closed => flow.failed(first.spoken.reason()),
        Spoken::Other(_) | Spoken::Silent => {
            refuse(&relay, stream, first.spoken, first.spoken.reason()).await;
            flow.refused(first.spoken.reason());
        }
    }
}

/// Serves one connection to the proxy port.
pub(super) async fn proxy(relay: Arc<Relay>, mut stream: TcpStream, peer: SocketAddr) {
    // As in `transparent`, `peer_addr` fails once the connection is closed.
    let is_open = || stream.peer_addr().is_ok();
    let origin = match relay.destinations.take_proxy(peer, is_open) {
        Ok(origin) => origin,
        Err(discarded) => {
            discarded.report(&relay.reporter).await;
            return;
        }
    };
    let mut flow = relay.reporter.flow(origin, "raw").await;
    let first = read_first(&mut stream, Vec::new(), relay.config.limits.keep_alive).await;
    flow.protocol(first.spoken.label());
    match first.spoken {
        Spoken::Http => {
            http::serve(relay, stream, &first.bytes, Mode::Proxy, origin, Some(flow)).await;
        }
        Spoken::Closed => flow.failed("client_closed"),
        Spoken::Tls | Spoken::Other(_) | Spoken::Silent => {
            refuse(&relay, stream, first.spoken, "not_a_proxy_request").await;
            flow.refused("not_a_proxy_request");
        }
    }
}

/// Reports a redirected connection that was still in the listen backlog when the relay stopped.
pub(super) async fn unserved(relay: Arc<Relay>, stream: std::net::TcpStream, peer: SocketAddr) {
    match relay.destinations.take(peer, || stream.peer_addr().is_ok()) {
        Ok((origin, orig_dst)) => {
            let mut flow = relay.reporter.flow(origin, "raw").await;
            if let Ok(target) = relay.target(Host::Ip(orig_dst.ip()), orig_dst.port()) {
                flow.target(&target);
            }
            flow.failed("stopped");
        }
        Err(discarded) => discarded.report(&relay.reporter).await,
    }
}
