//! Which header fields pass, and which belong to one hop.
use http::header::{
    CONNECTION, EXPECT, HeaderMap, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const AGENT: HeaderName = HeaderName::from_static("x-pipelock-agent");

/// Removes what belongs to one hop, whatever the `Connection` header adds to the list, and
/// everything that is addressed to a proxy.
///
/// `Content-Length` and the framing are the HTTP library's, which writes both anew.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        // Naming the length here would not change the message, only how it is read.
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

/// Removes, from an origin's answer, what only the mediator itself may state.
pub(super) fn remove_claims(headers: &mut HeaderMap) {
    headers.remove(MARK);
    remove_prefixed(headers, "x-pipelock-");
}

/// Removes, from a request on its way out, what tells of the client or is meant for Pipelock, and
/// the expectation that this hop has met itself.
pub(super) fn remove_private(headers: &mut HeaderMap) {
    for name in [VIA, FORWARDED_FOR, AGENT, EXPECT] {
        headers.remove(name);
    }
    remove_prefixed(headers, "proxy-");
}

fn remove_prefixed(headers: &mut HeaderMap, prefix: &str) {
    let found: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(prefix))
        .cloned()
        .collect();
    for name in found {
        headers.remove(name);
    }
}
