//! Judges requests to the explicit proxy port. Only CONNECT, absolute form, `/fetch`, and `/ws` are allowed.
//!
//! Claims: control-paths, name-match, ports
use http::{HeaderMap, Method, Uri};

use super::ask::{Ask, Refused, ask, host_field};
use super::authority::{self, Target};
use super::headers::wants_websocket;
use super::query;
use super::report::Flow;
use super::state::Relay;

/// Judges a request to the proxy port.
pub(super) fn judge(
    relay: &Relay,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    flow: &mut Flow,
) -> Result<Ask, Refused> {
    match (method, uri.scheme_str(), uri.authority()) {
        (&Method::CONNECT, None, Some(authority)) if uri.path_and_query().is_none() => {
            let (host, port) = authority::parse(authority.as_str(), None)
                .ok_or(Refused(400, "malformed_target"))?;
            target(relay, host, port, flow).map(Ask::Connect)
        }
        (&Method::CONNECT, _, _) => Err(Refused(400, "malformed_target")),
        (_, Some("http"), Some(authority)) => {
            absolute(relay, method, uri, authority, headers, flow)
        }
        (_, None, None) => own_path(relay, method, uri, headers, flow),
        // Other schemes, such as https, ws, and ftp. A client that uses TLS must use CONNECT.
        (_, Some(_), _) => Err(Refused(403, "scheme")),
        _ => Err(Refused(400, "malformed_target")),
    }
}

fn absolute(
    relay: &Relay,
    method: &Method,
    uri: &Uri,
    authority: &http::uri::Authority,
    headers: &HeaderMap,
    flow: &mut Flow,
) -> Result<Ask, Refused> {
    let (host, port) =
        authority::parse(authority.as_str(), Some(80)).ok_or(Refused(400, "malformed_target"))?;
    let (named, named_port) =
        authority::parse(host_field(headers)?, Some(80)).ok_or(Refused(400, "malformed_host"))?;
    if (&named, named_port) != (&host, port) {
        return Err(Refused(403, "name_mismatch"));
    }
    let target = target(relay, host, port, flow)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if !path.starts_with('/') {
        return Err(Refused(400, "malformed_target"));
    }
    ask(target, path, method, headers)
}

/// Judges a request for one of the mediator's own paths. Only two paths are allowed, because others could reach the
/// mediator's controls.
fn own_path(
    relay: &Relay,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    flow: &mut Flow,
) -> Result<Ask, Refused> {
    let Some(given) = uri.query() else {
        return Err(Refused(403, "not_a_proxy_request"));
    };
    let (schemes, websocket): (&[(&str, u16)], bool) = match uri.path() {
        "/fetch" => (&[("http", 80), ("https", 443)], false),
        "/ws" => (&[("ws", 80), ("wss", 443)], true),
        _ => return Err(Refused(403, "not_a_proxy_request")),
    };
    if method != Method::GET {
        return Err(Refused(405, "method"));
    }
    let query = query::parse(given).ok_or(Refused(400, "malformed_query"))?;
    let (host, port, rest) =
        query::split_url(&query.url, schemes).ok_or(Refused(400, "malformed_url"))?;
    let target = target(relay, host, port, flow)?;
    // The URL is rebuilt with the judged host, so that the mediator cannot read another host from it.
    let rewritten = query.rewritten(&target, rest);
    match (websocket, wants_websocket(method, headers)) {
        (true, Ok(true)) => Ok(Ask::WebSocketQuery(target, rewritten)),
        (false, Ok(false)) => Ok(Ask::Fetch(target, rewritten)),
        _ => Err(Refused(400, "malformed_upgrade")),
    }
}

/// Returns the target of a request. The target is recorded in the flow before the port is judged,
/// so that the report of a denial has the name.
fn target(
    relay: &Relay,
    host: authority::Host,
    port: u16,
    flow: &mut Flow,
) -> Result<Target, Refused> {
    let target = relay
        .target(host, port)
        .map_err(|reason| Refused(403, reason))?;
    flow.target(&target);
    if relay.allows_port(target.port) {
        Ok(target)
    } else {
        Err(Refused(403, "port_not_allowed"))
    }
}
