//! The destination of a request, as the mediator judges it and connects to it.
use std::fmt;

use egress_policy::Host;
use egress_policy::host::HostError;
use http::Uri;
use http::uri::PathAndQuery;
use thiserror::Error;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    /// Host name or address.
    pub(super) host: Host,
    /// Port, never 0.
    pub(super) port: u16,
}

/// Why a target is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum TargetError {
    /// The request line has no authority, or an empty one.
    #[error("the request does not name a host")]
    NoAuthority,
    /// User information, as in `user@host`.
    #[error("the request has user information in its target")]
    UserInfo,
    /// A port that is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// A malformed host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A `/ws` request without exactly one well-formed `url`.
    #[error("the request must have exactly one url parameter")]
    UrlParameter,
}

impl Destination {
    /// Parses `host` or `host:port`.
    ///
    /// # Errors
    /// Fails if the text contains user information, no host, or a malformed host or port.
    pub(super) fn parse(authority: &str, default_port: u16) -> Result<Self, TargetError> {
        if authority.contains('@') {
            return Err(TargetError::UserInfo);
        }
        let (host, port) = split_port(authority);
        let port = match port {
            None => default_port,
            Some(digits) => parse_port(digits)?,
        };
        if host.is_empty() {
            return Err(TargetError::NoAuthority);
        }
        // Without brackets, the last group of an IPv6 address would be taken for the port.
        if host.contains(':') && !host.starts_with('[') {
            return Err(TargetError::Port);
        }
        let host = Host::parse(host)?;
        Ok(Self { host, port })
    }

    /// Returns the destination of an absolute URI.
    ///
    /// # Errors
    /// Fails if the URI has no authority, or for the reasons of [`Destination::parse`].
    pub(super) fn of(uri: &Uri, default_port: u16) -> Result<Self, TargetError> {
        let authority = uri.authority().ok_or(TargetError::NoAuthority)?;
        Self::parse(authority.as_str(), default_port)
    }
}

/// Formats `host:port`.
impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        // The last colon of `[::1]` is inside the brackets.
        Some((_, after)) if after.contains(']') => (authority, None),
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

fn parse_port(digits: &str) -> Result<u16, TargetError> {
    let plain = (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse::<u16>() {
        Ok(port) if plain && port != 0 => Ok(port),
        Ok(_) | Err(_) => Err(TargetError::Port),
    }
}

/// Returns the decoded `url` parameter of `/ws?url=…`. Ignores other parameters.
///
/// # Errors
/// Fails if there is not exactly one `url`, or its value is not a URL.
pub(super) fn url_parameter(target: &PathAndQuery) -> Result<Uri, TargetError> {
    let query = target.query().ok_or(TargetError::UrlParameter)?;
    let mut found = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("url="));
    let value = found.next().ok_or(TargetError::UrlParameter)?;
    if found.next().is_some() {
        return Err(TargetError::UrlParameter);
    }
    let text = percent_decode(value).ok_or(TargetError::UrlParameter)?;
    text.parse().map_err(|_not_a_url| TargetError::UrlParameter)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_have_one_reading() {
        for (text, expected) in [
            ("A.Test", "a.test:443"),
            ("a.test.:80", "a.test:80"),
            ("[::1]", "[::1]:443"),
            ("[2001:db8::1]:8443", "[2001:db8::1]:8443"),
            ("198.51.100.1:1", "198.51.100.1:1"),
            ("[::ffff:198.51.100.1]:65535", "198.51.100.1:65535"),
        ] {
            let read = Destination::parse(text, 443).map(|to| to.to_string());
            assert_eq!(read.as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "",
            ":80",
            "a.test:",
            "a.test:0",
            "a.test:65536",
            "a.test:+80",
            "a.test:080000",
            "a.test:8o",
            "a@b.test",
            "::1",
            "2001:db8::1:443",
            "a.test:80:90",
            "a%20b.test",
            "[::1",
            "[::1]80",
            "127.1",
            "a b.test",
            "a.test/x",
        ] {
            assert!(Destination::parse(text, 443).is_err(), "{text}");
        }
    }

    #[test]
    fn the_url_parameter_is_taken_once_and_decoded() {
        let read = |text: &str| {
            let target: PathAndQuery = text.parse().unwrap();
            url_parameter(&target).map(|uri| uri.to_string())
        };
        let plain = Ok(String::from("ws://a.test:81/x?y=1"));
        assert_eq!(read("/ws?url=ws://a.test:81/x?y=1"), plain);
        assert_eq!(
            read("/ws?agent=z&url=ws%3A%2F%2Fa.test%3a81%2Fx%3Fy%3D1"),
            plain
        );
        for text in [
            "/ws",
            "/ws?",
            "/ws?url=",
            "/ws?URL=ws://a.test",
            "/ws?url=ws://a.test&url=ws://b.test",
            "/ws?url=ws%3A%2F%2Fa.test%2",
            "/ws?url=ws%3A%2F%2Fa.test%zz",
            "/ws?url=%ff%fe",
            "/ws?url=%2b%+1",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
