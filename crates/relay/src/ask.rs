//! A judged request, and the checks that redirected connections and the proxy port share. Performs no I/O.
use http::{HeaderMap, Method};

use super::authority::Target;
use super::headers::wants_websocket;
use super::query::Rewritten;

/// The action that a judged request requires.
#[derive(Debug)]
pub(super) enum Ask {
    /// An HTTP exchange, with the path and query of its URL.
    Forward(Target, String),
    /// A WebSocket, with the path and query of its URL.
    WebSocket(Target, String),
    /// A request for the mediator's `/fetch` path, with its query.
    Fetch(Target, Rewritten),
    /// A request for the mediator's `/ws` path, with its query.
    WebSocketQuery(Target, Rewritten),
    /// A tunnel to the target.
    Connect(Target),
}

/// HTTP status and reason word for a request that the relay denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused(pub(super) u16, pub(super) &'static str);

/// Decides by the header fields whether a request is plain or opens a WebSocket.
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

/// Returns the Host field. The check of the raw head has ensured that a request other than CONNECT has exactly one Host
/// field.
pub(super) fn host_field(headers: &HeaderMap) -> Result<&str, Refused> {
    headers
        .get(http::header::HOST)
        .and_then(|value| value.to_str().ok())
        .ok_or(Refused(400, "no_host"))
}
