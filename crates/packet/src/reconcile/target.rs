//! Brings the targets of requests and receipts into one form, so that they can be compared.
use egress_policy::Host;

/// The target of a request, in a form that does not depend on the writer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Target {
    /// `connect`, `forward`, `websocket`, `fetch`, `intercept`, …
    pub(super) transport: String,
    /// `GET`, …, `WS` for every WebSocket, or `CONNECT` for every tunnel.
    pub(super) method: String,
    /// `http`, `https`, `ws`, or `wss`. `https` for a tunnel. Empty if a row has no URL.
    pub(super) scheme: String,
    /// Host in lower case, without a final dot.
    pub(super) host: String,
    /// Port. `None` if the writer omits the port.
    pub(super) port: Option<u16>,
    pub(super) path: Path,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Path {
    /// The percent-decoded path without query and fragment.
    Known(Vec<u8>),
    /// A part of the path was redacted or cut.
    Hidden,
    /// The writer does not record the path.
    Unknown,
}

/// Start of the marks that replace a redacted part of a target.
const REDACTED: &str = "[redacted-";

impl Target {
    /// Reads the target of a receipt. Returns `None` if the host was redacted or the text is not a
    /// URL.
    pub(super) fn of_receipt(transport: &str, method: &str, target: &str) -> Option<Self> {
        Self::of_url(transport, method, target)
    }

    /// Reads the target of a row of the relay, `METHOD URL` or `CONNECT host:port`.
    ///
    /// A log of an earlier version has no target, or one of the mediator's paths instead of the URL
    /// (`GET /ws?url=…`). The target is then `host` and `port` of the row, and the path is unknown.
    pub(super) fn of_row(
        transport: &str,
        target: Option<&str>,
        host: Option<&str>,
        port: Option<u16>,
    ) -> Option<Self> {
        let words = target.and_then(|target| target.split_once(' '));
        if let Some(("CONNECT", authority)) = words {
            let url = format!("https://{authority}/");
            return Self::of_url(transport, "CONNECT", &url);
        }
        if let Some((method, url)) = words
            && url.contains("://")
            && !url.starts_with('/')
        {
            return Self::of_url(transport, method, url);
        }
        let method = words.map_or("", |(method, _)| method);
        Some(Self {
            transport: transport.to_owned(),
            method: uniform_method(transport, method).to_owned(),
            scheme: String::new(),
            host: uniform_host(host?),
            port,
            path: Path::Unknown,
        })
    }

    fn of_url(transport: &str, method: &str, url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        let authority = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        if authority.contains(REDACTED) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, written) = split_port(authority)?;
        let port = match written {
            Some(port) => Some(port),
            // Pipelock 2.x always omits the port of a tunnel.
            None if transport == "connect" => None,
            None => default_port(&scheme),
        };
        let path = path.split(['?', '#']).next().unwrap_or_default();
        Some(Self {
            transport: transport.to_owned(),
            method: uniform_method(transport, method).to_owned(),
            scheme,
            host: uniform_host(host),
            port,
            path: Path::of(path),
        })
    }

    /// Brings a host name into the form of a target.
    pub(super) fn host_of(text: &str) -> String {
        uniform_host(text)
    }

    /// Whether the writer hides or omits a part.
    pub(super) fn is_partial(&self) -> bool {
        self.port.is_none() || !matches!(self.path, Path::Known(_))
    }

    /// Whether both targets may belong to the same request, and one of the two hides or omits a part.
    pub(super) fn is_partial_of(&self, other: &Self, shortest_secret: usize) -> bool {
        (self.is_partial() || other.is_partial()) && self.may_be(other, shortest_secret)
    }

    /// Returns the parts that no writer hides or omits.
    pub(super) fn coarse(&self) -> (&str, &str) {
        (&self.transport, &self.host)
    }

    /// Whether both targets may belong to the same request, if one of the two hides or omits a part. A path that is
    /// shorter than `shortest_secret` does not contain anything that a writer hides.
    pub(super) fn may_be(&self, other: &Self, shortest_secret: usize) -> bool {
        let port = self.port.is_none() || other.port.is_none() || self.port == other.port;
        let scheme =
            self.scheme.is_empty() || other.scheme.is_empty() || self.scheme == other.scheme;
        let method =
            self.method.is_empty() || other.method.is_empty() || self.method == other.method;
        self.transport == other.transport
            && self.host == other.host
            && port
            && scheme
            && method
            && self.path.may_be(&other.path, shortest_secret)
    }
}

impl Path {
    /// Returns the length of the shortest path in which a writer finds something to redact. The patterns of a policy
    /// may match a path of any length.
    pub(super) fn shortest_secret(has_patterns: bool) -> usize {
        if has_patterns { 0 } else { 8 }
    }

    fn of(text: &str) -> Self {
        if text.contains(REDACTED) {
            return Self::Hidden;
        }
        let text = if text.is_empty() { "/" } else { text };
        Self::Known(percent_decoded(text.as_bytes()))
    }

    fn may_be(&self, other: &Self, shortest_secret: usize) -> bool {
        match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) | (Self::Hidden, Self::Hidden) => true,
            (Self::Known(one), Self::Known(other)) => one == other,
            (Self::Hidden, Self::Known(path)) | (Self::Known(path), Self::Hidden) => {
                path.len() >= shortest_secret
            }
        }
    }
}

fn uniform_method<'m>(transport: &str, method: &'m str) -> &'m str {
    match transport {
        "websocket" => "WS",
        "connect" => "CONNECT",
        _ => method,
    }
}

/// Brings a host into one spelling, because writers keep the case, the final dot, and the form of an address that the
/// client used.
fn uniform_host(text: &str) -> String {
    Host::parse(text.trim_matches(['[', ']'])).map_or_else(
        |_| text.trim_end_matches('.').to_lowercase(),
        |host| host.to_string().trim_matches(['[', ']']).to_owned(),
    )
}

fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let bracket = authority.rfind(']').map_or(0, |at| at.saturating_add(1));
    match authority.get(bracket..)?.split_once(':') {
        None => Some((authority, None)),
        Some((_, "")) => Some((authority.strip_suffix(':')?, None)),
        Some((before, port)) => {
            let host = authority.get(..bracket.saturating_add(before.len()))?;
            Some((host, Some(port.parse().ok()?)))
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// Decodes percent-encoded bytes, because writers in Go and in Rust encode different bytes.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| {
        char::from(*byte?)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        let decoded = (*first == b'%')
            .then(|| digit(more.first()).zip(digit(more.get(1))))
            .flatten();
        if let Some((high, low)) = decoded {
            out.push(high << 4 | low);
            rest = more.get(2..).unwrap_or_default();
        } else {
            out.push(*first);
            rest = more;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shortest path with a secret without patterns of a policy.
    const NO_PATTERNS: usize = 8;

    #[test]
    fn a_short_path_is_hidden_only_by_a_pattern() {
        let asked = row("forward", "GET http://a.test/[redacted-value]");
        for (path, is_hidden) in [("/ab", [false, true]), ("/abcdefg", [true, true])] {
            let signed = receipt("forward", "GET", &format!("http://a.test{path}"));
            let may_be = [false, true]
                .map(|has_patterns| asked.may_be(&signed, Path::shortest_secret(has_patterns)));
            assert_eq!(may_be, is_hidden, "{path}");
        }
    }

    fn receipt(transport: &str, method: &str, url: &str) -> Target {
        Target::of_receipt(transport, method, url).unwrap()
    }

    fn row(transport: &str, text: &str) -> Target {
        Target::of_row(transport, Some(text), Some("a.test"), Some(80)).unwrap()
    }

    #[test]
    fn both_writers_have_one_form() {
        for (transport, row_text, method, url) in [
            (
                "forward",
                "GET http://a.test/x",
                "GET",
                "http://A.test:80/x?q=1#f",
            ),
            ("forward", "GET http://a.test/", "GET", "http://u:p@a.test."),
            (
                "forward",
                "GET http://a.test/a~b c",
                "GET",
                "http://a.test/a%7Eb%20c",
            ),
            (
                "forward",
                "GET http://a.test/x?[query 3 00]",
                "GET",
                "http://a.test/x?a=b",
            ),
            (
                "websocket",
                "GET ws://a.test:8080/c",
                "WS",
                "ws://a.test:8080/c",
            ),
            (
                "fetch",
                "GET https://a.test/f",
                "GET",
                "https://a.test:443/f",
            ),
            (
                "connect",
                "CONNECT a.test:443",
                "CONNECT",
                "https://a.test:443/",
            ),
            (
                "connect",
                "CONNECT [2001:db8::1]:443",
                "CONNECT",
                "https://[2001:DB8:0::1]:443/",
            ),
        ] {
            assert_eq!(
                row(transport, row_text),
                receipt(transport, method, url),
                "{url}"
            );
        }
    }

    #[test]
    fn what_differs_is_another_request() {
        let asked = row("forward", "GET http://a.test/x");
        for (transport, method, url) in [
            ("forward", "POST", "http://a.test/x"),
            ("forward", "GET", "https://a.test/x"),
            ("forward", "GET", "http://a.test:81/x"),
            ("forward", "GET", "http://b.test/x"),
            ("forward", "GET", "http://a.test/y"),
            ("fetch", "GET", "http://a.test/x"),
            // The path is too short to contain anything that a writer redacts.
            ("forward", "GET", "http://a.test/[redacted-path]"),
        ] {
            let signed = receipt(transport, method, url);
            assert_ne!(asked, signed, "{url}");
            assert!(!asked.may_be(&signed, NO_PATTERNS), "{url}");
        }
        assert_eq!(
            Target::of_receipt("forward", "GET", "[redacted-target]"),
            None
        );
    }

    #[test]
    fn hidden_parts_may_be_anything_that_could_be_hidden() {
        let asked = row("forward", "GET http://a.test/bot123456:secret");
        assert!(asked.may_be(
            &receipt("forward", "GET", "http://a.test/[redacted-path]"),
            NO_PATTERNS
        ));
        assert!(!asked.may_be(
            &receipt("forward", "PUT", "http://a.test/[redacted-path]"),
            NO_PATTERNS
        ));
        let old = Target::of_row("fetch", Some("GET /fetch?url=x"), Some("a.test"), Some(80));
        assert!(old.unwrap().may_be(
            &receipt("fetch", "GET", "http://a.test/longer/path"),
            NO_PATTERNS
        ));
        let without_port = receipt("connect", "CONNECT", "https://a.test/");
        assert!(row("connect", "CONNECT a.test:8443").may_be(&without_port, NO_PATTERNS));
    }
}
