//! Parses and rewrites the query of the mediator's `/fetch` and `/ws`. Performs no I/O.
use super::authority::{self, Host, Target};

/// A parsed query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The `url` member, decoded.
    pub url: String,
    /// The other members, decoded and in order, without `agent`.
    others: Vec<(String, String)>,
}

/// Parses a query, which must have exactly one `url` and plain member names. Removes the member `agent`.
///
/// Returns `None` if the query does not have this form.
pub fn parse(query: &str) -> Option<Query> {
    let mut url = None;
    let mut others = Vec::new();
    for member in query.split('&') {
        let (name, value) = member.split_once('=')?;
        let (name, value) = (decode(name)?, decode(value)?);
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if name.is_empty() || !name.bytes().all(plain) {
            return None;
        }
        match name.as_str() {
            "agent" => {}
            "url" if url.is_some() => return None,
            "url" => url = Some(value),
            _ => others.push((name, value)),
        }
    }
    Some(Query { url: url?, others })
}

/// Splits a URL into host, port, and the rest, if its scheme is one of `schemes` (name and default port).
pub fn split_url<'a>(url: &'a str, schemes: &[(&str, u16)]) -> Option<(Host, u16, &'a str)> {
    if !url
        .bytes()
        .all(|b| (0x21..0x7f).contains(&b) && !b"\\\"<>^`{|}".contains(&b))
    {
        return None;
    }
    let (scheme, rest) = url.split_once("://")?;
    let (_, default_port) = schemes.iter().find(|(name, _)| *name == scheme)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let (host, port) = authority::parse(authority, Some(*default_port))?;
    Some((host, port, path))
}

/// A rebuilt query and its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// The encoded query.
    pub query: String,
    /// The URL in the query, with the judged host.
    pub url: String,
}

impl Query {
    /// Rebuilds the query, with `target` as host and port of its URL and `rest` as its path and query.
    pub fn rewritten(&self, target: &Target, rest: &str) -> Rewritten {
        let scheme = self.url.split_once("://").map_or("", |(scheme, _)| scheme);
        let scheme_port = if matches!(scheme, "https" | "wss") {
            443
        } else {
            80
        };
        // A fragment is never sent, and an empty path is sent as `/` (RFC 9112, section 3.2.1).
        let path = rest.split('#').next().unwrap_or_default();
        let root = if path.starts_with('/') { "" } else { "/" };
        let url = format!("{scheme}://{}{root}{path}", target.authority(scheme_port));
        let mut query = Rewritten::of(&url);
        for (name, value) in &self.others {
            query.push('&');
            query.push_str(name);
            query.push('=');
            query.push_str(&encode(value));
        }
        Rewritten { query, url }
    }
}

impl Rewritten {
    /// Returns a query that contains only `url`.
    pub fn new(url: String) -> Self {
        let query = Self::of(&url);
        Self { query, url }
    }

    fn of(url: &str) -> String {
        format!("url={}", encode(url))
    }
}

/// Percent-encodes everything except the unreserved characters (RFC 3986, section 2.3).
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            for digit in [byte >> 4, byte & 15] {
                let digit = char::from_digit(u32::from(digit), 16).unwrap_or('0');
                encoded.push(digit.to_ascii_uppercase());
            }
            let at = encoded.len() - 2;
            encoded.insert(at, '%');
        }
    }
    encoded
}

/// Decodes percent-encoding and `+`, which is a space in a query. Returns `None` for a `;`, an invalid percent sign, or
/// bytes that are not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' => b' ',
            b';' => return None,
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: [(&str, u16); 2] = [("http", 80), ("https", 443)];

    fn round(query: &str) -> Option<String> {
        let query = parse(query)?;
        let (host, port, rest) = split_url(&query.url, &HTTP)?;
        Some(query.rewritten(&Target { host, port }, rest).query)
    }

    #[test]
    fn a_query_is_written_anew() {
        let cases = [
            ("url=http://a.test/x", "url=http%3A%2F%2Fa.test%2Fx"),
            (
                "url=https%3A%2F%2FA.test%3A443%2F%3Fq%3D1%26r%3D2",
                "url=https%3A%2F%2Fa.test%2F%3Fq%3D1%26r%3D2",
            ),
            (
                "agent=me&url=http://a.test&max_length=10",
                "url=http%3A%2F%2Fa.test%2F&max_length=10",
            ),
            ("url=http://a.test%23x/y", "url=http%3A%2F%2Fa.test%2F"),
            (
                "url=http://a.test%3Fq%23x",
                "url=http%3A%2F%2Fa.test%2F%3Fq",
            ),
            ("url=http://a.test/p%23x", "url=http%3A%2F%2Fa.test%2Fp"),
            (
                "%61gent=me&url=http://a.test:8080/",
                "url=http%3A%2F%2Fa.test%3A8080%2F",
            ),
            (
                "url=http://[2001:db8::1]/",
                "url=http%3A%2F%2F%5B2001%3Adb8%3A%3A1%5D%2F",
            ),
        ];
        for (query, expected) in cases {
            assert_eq!(round(query).as_deref(), Some(expected), "{query}");
        }
    }

    #[test]
    fn what_could_be_read_otherwise_is_refused() {
        for query in [
            "",
            "url",
            "url=",
            "x=1",
            "url=http://a.test&url=http://b.test",
            "url=ftp://a.test/",
            "url=http:///health",
            "url=http:/a.test",
            "url=//a.test",
            "url=http://u@a.test/",
            "url=http://a.test\\@b.test/",
            "url=http://a.test%00/",
            "url=http://a%252etest/",
            "url=http://a.test/;x=1&agent=1;",
            "url=http://a.test/%",
            "url=http://a.test/%zz",
            "url=http://a test/",
            "url=HTTP://a.test/",
            "URL=http://a.test/",
            "url=http://0x7f.1/",
            "&url=http://a.test",
            "a.b=1&url=http://a.test",
            "url=http://a.test/%ff",
        ] {
            assert_eq!(round(query), None, "{query}");
        }
    }
}
