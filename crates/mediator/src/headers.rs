//! Removes header fields that must not be passed on.
use egress_http::headers::remove_prefixed;
use http::header::{
    CONNECTION, EXPECT, HeaderMap, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const AGENT: HeaderName = HeaderName::from_static("x-pipelock-agent");

/// Removes hop-by-hop fields, including fields that `Connection` names, and fields that are
/// addressed to a proxy.
///
/// `Content-Length` stays. The HTTP library writes the framing of the new message.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        // These two fields stay even if `Connection` names them, because the same message would be
        // parsed differently without them.
        if name != http::header::CONTENT_LENGTH && name != http::header::HOST {
            headers.remove(name);
        }
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        PROXY_CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// The field in which the mediator marks its own answers for the relay.
pub(super) const MARK: HeaderName = HeaderName::from_static("x-egress-mediator");

/// Removes from an origin's answer the fields that only the mediator may set.
pub(super) fn remove_claims(headers: &mut HeaderMap) {
    headers.remove(MARK);
    remove_prefixed(headers, "x-pipelock-");
}

/// Removes from a request the fields that describe the client or are meant for a proxy. Also removes `Expect`, because
/// the mediator has already answered it.
pub(super) fn remove_private(headers: &mut HeaderMap) {
    for name in [VIA, FORWARDED_FOR, AGENT, EXPECT] {
        headers.remove(name);
    }
    remove_prefixed(headers, "proxy-");
}
