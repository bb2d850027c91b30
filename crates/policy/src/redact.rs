//! Writes the target of a request without its query and credentials.
//!
//! The relay and the built-in mediator both write targets with the same key. The flow log and the receipts of a run
//! therefore contain the same text for a request. A reader can compare the two texts, which reveal neither the query
//! nor the credentials. With a Pipelock, the relay also removes texts that match a pattern of the policy.
use std::fmt;

use crate::Host;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use crate::secrets::is_credential;
use crate::secrets::{has_form, is_secret};

/// The text that replaces a path segment that looks like a credential.
pub const REDACTED: &str = "[redacted-value]";
/// The longest path that is written out, in bytes.
const MAX_PATH: usize = 2 << 10;
/// Number of hex digits in a digest.
const DIGEST: usize = 16;
/// The key for a run's digests.
///
/// The key is random, and egress does not write it to the packet. Without the key, a guess of a
/// short query cannot be confirmed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key(String);

impl Key {
    /// Creates a key from this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Hides the key from logs and error messages.
impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(..)")
    }
}

/// Whether a text contains a secret that only this run has, such as a match of a pattern in its policy.
pub type OwnSecret<'r> = &'r dyn Fn(&str) -> bool;

/// Writes a URL, or an authority alone, as receipts and the flow log record it.
///
/// Scheme and host become lower case. The default port, the user information, and the fragment are removed. The query
/// is replaced by its length and keyed digest. Path segments that contain a secret are replaced by [`REDACTED`], and so
/// is the whole path if a secret spans several segments. The part of the path beyond 2 KiB is replaced by its length
/// and digest. The function returns its own results unchanged.
pub fn target(text: &str, key: &Key) -> String {
    target_without(text, key, None)
}

/// Writes a target like [`target`], and also replaces path segments that contain an `own` secret. The whole path is
/// replaced if an own secret spans several segments, or the host and a part of the path.
pub fn target_without(text: &str, key: &Key, own: Option<OwnSecret<'_>>) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return authority(text, None);
    };
    let scheme = scheme.to_ascii_lowercase();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let default_port = match scheme.as_str() {
        "http" | "ws" => Some("80"),
        "https" | "wss" => Some("443"),
        _ => None,
    };
    let origin = format!("{scheme}://{}", authority(host, default_port));
    let secrets = Secrets {
        origin: &origin,
        own,
    };
    let path = hidden_path(path, key, secrets);
    let query = query.map(|query| hidden_query(query, key));
    format!("{origin}{path}{}", query.unwrap_or_default())
}

/// Returns the host and the port. The port is left out if it is `default_port`.
fn authority(text: &str, default_port: Option<&str>) -> String {
    let text = text.rsplit_once('@').map_or(text, |(_, after)| after);
    let (host, port) = match text.rsplit_once(':') {
        // The last colon of `[::1]` is inside the brackets.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let (host, default_port) = match Host::parse(host) {
        Ok(host) => (host.to_string(), default_port),
        // A text that is not a host may end with a second port. If this call removed a default port, a second call
        // would remove the other port.
        Err(_) => (host.to_lowercase(), None),
    };
    match port.filter(|port| Some(*port) != default_port) {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

fn hidden_query(query: &str, key: &Key) -> String {
    if is_mark(query, "query") {
        return format!("?{query}");
    }
    format!("?{}", mark("query", query, key))
}

/// Returns the path without secrets, and cut. An empty path becomes `/`, as HTTP sends it.
fn hidden_path(path: &str, key: &Key, secrets: Secrets<'_>) -> String {
    if path.is_empty() {
        return String::from("/");
    }
    let cut = path.rfind('[').filter(|at| is_mark_at(path, *at));
    if let Some((kept, mark)) = cut.and_then(|at| path.split_at_checked(at)) {
        return format!("{}{mark}", secrets.removed_from(kept));
    }
    let shown = secrets.removed_from(path);
    if shown.len() <= MAX_PATH {
        return shown;
    }
    let (kept, rest) = shown.split_at(shown.floor_char_boundary(MAX_PATH));
    // The cut may turn the start of a longer word into a token, so the kept part is checked again.
    let kept = secrets.removed_from(kept);
    format!("{kept}{}", mark("path", rest, key))
}

/// The secrets that are removed from a path.
#[derive(Clone, Copy)]
struct Secrets<'r> {
    /// The text before the path. A pattern of a policy may match a part of it together with the path.
    origin: &'r str,
    own: Option<OwnSecret<'r>>,
}

impl Secrets<'_> {
    fn removed_from(self, path: &str) -> String {
        let has_own = |text: &str| self.own.is_some_and(|own| has_form(text, own));
        let segments = path.split('/').map(|segment| {
            if is_secret(segment) || !segment.is_empty() && has_own(segment) {
                REDACTED
            } else {
                segment
            }
        });
        let shown = segments.collect::<Vec<_>>().join("/");
        // Every secret with a public format that may contain a slash has a name, a URL, or JSON before it.
        let is_public = shown.contains(['=', ':', '"', '%']) && is_secret(&shown);
        if shown != "/" && (is_public || has_own(&format!("{}{shown}", self.origin))) {
            return format!("/{REDACTED}");
        }
        shown
    }
}

/// Returns `[WHAT LENGTH DIGEST]`. A URL cannot contain a space, so a client cannot send this text.
fn mark(what: &str, text: &str, key: &Key) -> String {
    let mut hasher = Sha256::new();
    hasher.update(key.0.as_bytes());
    hasher.update([0]);
    hasher.update(text.as_bytes());
    let digest = hex::encode(hasher.finalize());
    let digest = digest.get(..DIGEST).unwrap_or_default();
    format!("[{what} {} {digest}]", text.len())
}

fn is_mark(text: &str, what: &str) -> bool {
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let mut words = inner.unwrap_or_default().split(' ');
    let all = |word: Option<&str>, is: fn(&u8) -> bool| {
        word.is_some_and(|word| !word.is_empty() && word.as_bytes().iter().all(is))
    };
    words.next() == Some(what)
        && all(words.next(), u8::is_ascii_digit)
        && all(words.next(), u8::is_ascii_hexdigit)
        && words.next().is_none()
}

fn is_mark_at(path: &str, at: usize) -> bool {
    path.get(at..).is_some_and(|rest| is_mark(rest, "path"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::examples::{secrets, some};

    fn shown(text: &str) -> String {
        target(text, &Key::new("k"))
    }

    /// Claims: crate-policy
    #[test]
    fn a_target_has_one_spelling() {
        for (text, expected) in [
            ("http://A.Test:80", "http://a.test/"),
            ("HTTP://a.test.:8080/X", "http://a.test:8080/X"),
            ("https://a.test:443/", "https://a.test/"),
            ("ws://a.test:443/chat", "ws://a.test:443/chat"),
            ("http://user:secret@a.test/x#part", "http://a.test/x"),
            ("http://[2001:DB8::1]:80/", "http://[2001:db8::1]/"),
            ("http://[::ffff:192.0.2.7]/", "http://192.0.2.7/"),
            ("A.test.:443", "a.test:443"),
            ("u@[::1]:8443", "[::1]:8443"),
            ("a.test", "a.test"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn a_query_is_shown_by_length_and_keyed_digest() {
        let text = "http://a.test?token=secret#x";
        let digest = hex::encode(Sha256::digest(b"k\0token=secret"));
        let digest = digest.get(..16).unwrap();
        let expected = format!("http://a.test/?[query 12 {digest}]");
        assert_eq!(shown(text), expected);
        assert_ne!(target(text, &Key::new("other")), expected);
        assert!(shown("http://a.test/x?").starts_with("http://a.test/x?[query 0 "));
        // Different queries have different marks.
        assert_ne!(shown("http://a.test/?a"), shown("http://a.test/?b"));
    }

    #[test]
    fn credentials_in_a_path_are_replaced_in_every_spelling() {
        let forty = "a1B2".repeat(10);
        for token in [
            format!("ghp_{forty}"),
            format!("gho_{forty}"),
            format!("ghs_{forty}"),
            format!("github_pat_{forty}"),
            format!("glpat-{forty}"),
            format!("xoxb-{forty}"),
            format!("sk-{forty}"),
            format!("npm_{forty}"),
            format!("pypi-{forty}"),
            String::from("AKIAIOSFODNN7EXAMPLE"),
            String::from("ASIAIOSFODNN7EXAMPLE"),
            String::from("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"),
            format!("bot123456:{}", forty.get(..35).unwrap()),
        ] {
            let encoded: Vec<String> = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let encoded = encoded.concat();
            let twice = encoded.replace('%', "%25");
            for spelled in [token.clone(), format!("x={token}"), encoded, twice] {
                let text = format!("http://a.test/v1/{spelled}/x");
                assert_eq!(
                    shown(&text),
                    "http://a.test/v1/[redacted-value]/x",
                    "{text}"
                );
            }
        }
        for path in [
            "/risk-assessment-of-the-year-2026",
            "/sk-learn-contrib-packages",
            "/npm_modules",
            "/bots/123:x",
            "/eyJ",
            "/pypi-packages-of-the-day",
            "/100%",
        ] {
            assert_eq!(
                shown(&format!("http://a.test{path}")),
                format!("http://a.test{path}")
            );
        }
    }

    #[test]
    fn it_is_bounded_and_changes_nothing_twice() {
        for text in [
            String::from("http://A.test:80?x=1"),
            format!("http://a.test/{}?x", "é".repeat(3_000)),
            format!("http://a.test/{}", "a/".repeat(5_000)),
            format!("http://a.test/ghp_{}/x?y#z", "b".repeat(36)),
            String::from("u@a.test:1"),
            String::from("http://a.test:80:80/"),
            String::from("http://[x]:80:80/"),
        ] {
            let once = shown(&text);
            assert!(once.len() < MAX_PATH + 400, "{}", once.len());
            assert_eq!(shown(&once), once);
        }
    }

    #[test]
    fn no_cut_and_no_second_call_shows_or_hides_more() {
        for secret in secrets() {
            // The cut comes before, inside, and after the secret, or ends it where a word went on.
            for end in [1, secret.len() / 2, secret.len(), secret.len() + 1] {
                let start = "a".repeat(MAX_PATH - 2 - end);
                let once = shown(&format!("http://a.test/{start}/{secret}/x"));
                assert!(!once.contains(&secret), "{once}");
                for text in [once, shown(&format!("http://a.test/{start}/{secret}xyz"))] {
                    assert_eq!(shown(&text), text, "{secret}");
                }
            }
        }
        // A secret with a slash hides the whole path.
        let key = format!("AccountKey={}/{}==", some(40), some(45));
        let shown = shown(&format!("http://a.test/x/{key}/y"));
        assert_eq!(shown, "http://a.test/[redacted-value]");
    }

    #[test]
    fn own_secrets_are_replaced_in_every_spelling() {
        let is_own = |text: &str| {
            let starts = |(at, _): (usize, &str)| {
                let digit = text.as_bytes().get(at + 4);
                digit.is_some_and(u8::is_ascii_digit)
            };
            text.match_indices("ref-").any(starts) || text.contains("a.test/inner/x")
        };
        let shown = |text: &str| target_without(text, &Key::new("k"), Some(&is_own));
        for (path, expected) in [
            ("/ref-7", "/[redacted-value]"),
            ("/v1/ref-7/x", "/v1/[redacted-value]/x"),
            ("/v1/%72ef-7/x", "/v1/[redacted-value]/x"),
            ("/v1/%2572ef%252D7/x", "/v1/[redacted-value]/x"),
            ("/v1/cmVmLTcxMjM0NTY/x", "/v1/[redacted-value]/x"),
            ("/v1/r.e.f.-.7/x", "/v1/[redacted-value]/x"),
            ("/inner/x", "/[redacted-value]"),
            ("/ref-x", "/ref-x"),
            ("/inner/y", "/inner/y"),
            ("/", "/"),
            ("", "/"),
        ] {
            let once = shown(&format!("http://A.test:80{path}"));
            assert_eq!(once, format!("http://a.test{expected}"), "{path}");
            assert_eq!(shown(&once), once);
        }
        // A secret does not pass through the cut, and a long path stays bounded.
        for end in 0..8 {
            let start = "a/".repeat(MAX_PATH / 2 - 3);
            let once = shown(&format!("http://a.test/{start}{}ref-7/x", "b".repeat(end)));
            assert!(!once.contains("ref-7"), "{once}");
            assert_eq!(shown(&once), once);
        }
        // The result is stable even if everything is a secret.
        let all = |text: &str| target_without(text, &Key::new("k"), Some(&|_: &str| true));
        for path in ["/", "/a", "/a/b?c", "//"] {
            let once = all(&format!("http://a.test{path}"));
            assert!(once.ends_with('/') || once.contains(REDACTED), "{once}");
            assert_eq!(all(&once), once);
        }
    }
}
