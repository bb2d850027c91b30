//! What a request asks for, as far as both kinds of connections judge it alike. Pure.
use http::{HeaderMap, Method};

use super::authority::Target;
use super::headers::wants_websocket;
use super::query::Rewritten;

/// What a judged request asks for.
#[derive(Debug)]
pub(super) enum Ask {
    /// A plain request.
    Forward(Target, String),
    /// A WebSocket, with the path and query of its URL.
    WebSocket(Target, String),
    /// The mediator's `/fetch`, with its query.
    Fetch(Target, Rewritten),
    /// The mediator's `/ws`, with its query.
    WebSocketQuery(Target, Rewritten),
    /// A tunnel.
    Connect(Target),
}

/// A request that the relay refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused(pub(super) u16, pub(super) &'static str);

/// A plain request or a WebSocket, as its header fields say.
pub(super) fn ask(
    target: Target,
    path: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Ask, Refused> {
    match wants_websocket(method, headers) {
        Ok(false) => Ok(Ask::Forward(target, path.to_owned())),
        Ok(true) => Ok(Ask::WebSocket(target, path.to_owned())),
        Err(()) => Err(Refused(400, "malformed_upgrade")),
    }
}

/// The one Host field; its presence was checked in the raw head.
pub(super) fn host_field(headers: &HeaderMap) -> Result<&str, Refused> {
    headers
        .get(http::header::HOST)
        .and_then(|value| value.to_str().ok())
        .ok_or(Refused(400, "no_host"))
}
