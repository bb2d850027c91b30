//! Removes header fields that must not reach the mediator, the origin, or the command. Performs no I/O.
use egress_http::headers::remove_prefixed;
use egress_http::length;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};

/// The field in which the built-in mediator marks its own answers.
pub(super) const MARK: &str = "x-egress-mediator";

/// Prepares the fields of a request that is not in a tunnel, with `host` in the Host field.
pub(super) fn for_mediator(headers: &mut HeaderMap, host: HeaderValue) {
    for_origin(headers, host);
    // Pipelock cannot inspect a compressed answer and therefore denies it.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// Prepares the fields of a request that goes through a tunnel, with `host` in the Host field.
pub(super) fn for_origin(headers: &mut HeaderMap, host: HeaderValue) {
    strip_hop_by_hop(headers);
    // hyper answers `Expect: 100-continue` itself. If the field were sent on, the origin would
    // answer it a second time.
    headers.remove(EXPECT);
    headers.remove("http2-settings");
    remove_prefixed(headers, "x-pipelock-");
    headers.insert(HOST, host);
}

/// The field with the reason why the relay denied a request.
pub(super) const REFUSED: &str = "x-egress-refused";

/// Prepares the fields of an answer for the command. Removes the mediator's mark, which is secret, and the relay's
/// reason field, so that an origin cannot imitate a denial by the relay. `body` is the exact length of the body, if it
/// is known.
pub(super) fn for_agent(headers: &mut HeaderMap, body: Option<u64>) {
    length::settle(headers, body);
    strip_hop_by_hop(headers);
    headers.remove(MARK);
    headers.remove(REFUSED);
}

/// Returns whether a request opens a WebSocket.
///
/// # Errors
/// Fails if the request offers WebSocket together with another protocol, has no `Connection: upgrade`, or has a method
/// other than GET.
pub(super) fn wants_websocket(method: &http::Method, headers: &HeaderMap) -> Result<bool, ()> {
    let list = |name| {
        headers
            .get_all(name)
            .iter()
            .flat_map(|value| value.as_bytes().split(|&b| b == b','))
            .map(<[u8]>::trim_ascii)
    };
    if !list(UPGRADE).any(|token| token.eq_ignore_ascii_case(b"websocket")) {
        return Ok(false);
    }
    let alone = list(UPGRADE).count() == 1;
    let nominated = list(CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    if alone && nominated && method == http::Method::GET {
        Ok(true)
    } else {
        Err(())
    }
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let nominated: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|&b| b == b','))
            .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
            .collect();
        for name in nominated {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    remove_prefixed(headers, "proxy-");
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_end_to_end_fields_reach_the_mediator() {
        let mut headers = map(&[
            ("host", "x"),
            ("connection", "keep-alive, X-Hop"),
            ("connection", "te"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("x-pipelock-agent", "me"),
            ("expect", "100-continue"),
            ("accept-encoding", "gzip, br"),
            ("upgrade", "foo"),
            ("cookie", "a=b"),
            ("accept", "*/*"),
            ("content-length", "3"),
        ]);
        for_mediator(&mut headers, HeaderValue::from_static("a.test"));
        assert_eq!(
            headers,
            map(&[
                ("host", "a.test"),
                ("accept-encoding", "identity"),
                ("cookie", "a=b"),
                ("accept", "*/*"),
                ("content-length", "3")
            ])
        );
    }

    #[test]
    fn only_the_origins_own_fields_reach_the_agent() {
        let mut headers = map(&[
            ("x-egress-refused", "name_mismatch"),
            (MARK, "m"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("content-length", "7"),
            ("server", "x"),
        ]);
        for_agent(&mut headers, Some(3));
        assert_eq!(headers, map(&[("server", "x"), ("content-length", "3")]));
    }

    #[test]
    fn a_websocket_is_asked_for_in_one_way_only() {
        let good = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
        ];
        assert_eq!(wants_websocket(&Method::GET, &map(&good)), Ok(true));
        assert_eq!(
            wants_websocket(&Method::GET, &map(&[("upgrade", "foo")])),
            Ok(false)
        );
        assert_eq!(wants_websocket(&Method::GET, &map(&[])), Ok(false));
        assert_eq!(wants_websocket(&Method::POST, &map(&good)), Err(()));
        assert_eq!(wants_websocket(&Method::GET, &map(&good[1..])), Err(()));
        let mixed = [("connection", "upgrade"), ("upgrade", "websocket, foo")];
        assert_eq!(wants_websocket(&Method::GET, &map(&mixed)), Err(()));
    }
}
