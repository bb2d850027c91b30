//! Reads `host:port` strictly. Pure.
//!
//! One grammar for CONNECT, absolute form, `Host` and the stub resolver: letters, digits, `-`, `_`
//! and dots, an IPv4 address of four plain decimals, or an IPv6 address in brackets. Whatever another
//! program might read as a different host (userinfo, percent signs, `0x7f.1`, a zone) is not a host
//! here; the one dot that may end a name is taken off.
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A host as written by the agent: a name, or an address that stands for itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// Lower case, no trailing dot.
    Name(Arc<str>),
    /// IPv4 also when it was written as `::ffff:a.b.c.d`.
    Literal(IpAddr),
}

impl Host {
    /// Whether it means the machine that resolves it. The agent's loopback is not the mediator's, so
    /// such a host is never passed on.
    pub fn is_own_machine(&self) -> bool {
        match self {
            Self::Name(name) => is_localhost(name),
            Self::Literal(ip) => ip.is_loopback() || ip.is_unspecified(),
        }
    }

    /// The text for flow reports: an IPv6 address without brackets.
    pub fn plain(&self) -> String {
        match self {
            Self::Name(name) => name.to_string(),
            Self::Literal(ip) => ip.to_string(),
        }
    }
}

/// As in an authority: an IPv6 address has its brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Literal(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Literal(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// What a request is for: a host that was judged, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Never a synthetic address.
    pub host: Host,
    /// Port asked for.
    pub port: u16,
}

/// `host:port`, the port always written: the form of CONNECT.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Target {
    /// `host`, or `host:port` when the port is not the scheme's own.
    pub fn authority(&self, scheme_port: u16) -> String {
        if self.port == scheme_port {
            self.host.to_string()
        } else {
            self.to_string()
        }
    }
}

/// Parses `host`, or `host:port`; without a port the default counts, and is required if there is none.
///
/// Returns `None` for everything that is not exactly that.
pub fn parse(text: &str, default_port: Option<u16>) -> Option<(Host, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']')?;
            let ip = inside.parse::<Ipv6Addr>().ok()?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port),
                None if after.is_empty() => None,
                None => return None,
            };
            (Host::Literal(IpAddr::V6(ip).to_canonical()), port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (parse_host(host)?, Some(port)),
            None => (parse_host(text)?, None),
        },
    };
    let port = match port {
        Some(digits) => parse_port(digits)?,
        None => default_port?,
    };
    Some((host, port))
}

/// Whether `name` is a host name: labels of 1 to 63 letters, digits, `-` and `_`, 253 bytes in all,
/// and a last label that no resolver takes for part of an IPv4 address.
pub fn is_host_name(name: &str) -> bool {
    if name.is_empty() || name.len() > 253 {
        return false;
    }
    let labels_fit = name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    });
    labels_fit && !ends_in_number(name)
}

/// Whether `name` is `localhost` or below it (RFC 6761). Expects lower case.
pub fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn parse_host(text: &str) -> Option<Host> {
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Some(Host::Literal(IpAddr::V4(ip)));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    is_host_name(name).then(|| Host::Name(name.to_ascii_lowercase().into()))
}

fn parse_port(digits: &str) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u16>().ok().filter(|&port| port != 0)
}

/// `inet_aton` and URL parsers read `1.2.3`, `0x7f.1` and `017700000001` as addresses; a name whose
/// last label is a number, decimal or hexadecimal, might be one of them.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return true;
    }
    last.strip_prefix("0x")
        .or_else(|| last.strip_prefix("0X"))
        .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, default_port: Option<u16>) -> Option<String> {
        parse(text, default_port).map(|(host, port)| Target { host, port }.to_string())
    }

    #[test]
    fn hosts_are_normalised() {
        let cases = [
            ("Example.TEST:443", "example.test:443"),
            ("a.test.:443", "a.test:443"),
            ("a_b.test:1", "a_b.test:1"),
            ("192.0.2.7:80", "192.0.2.7:80"),
            ("[2001:DB8::1]:443", "[2001:db8::1]:443"),
            ("[::ffff:192.0.2.7]:443", "192.0.2.7:443"),
            ("x:65535", "x:65535"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text, None).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(shown("a.test", Some(80)).as_deref(), Some("a.test:80"));
        assert_eq!(shown("[::1]", Some(80)).as_deref(), Some("[::1]:80"));
    }

    #[test]
    fn everything_ambiguous_is_no_host() {
        let cases = [
            "",
            ":",
            ":443",
            "a.test",
            "a.test:",
            "a.test:0",
            "a.test:99999",
            "a.test:+1",
            "a.test:44 3",
            "a.test..:443",
            "127.0.0.1.:443",
            ".:443",
            ".a.test:443",
            "a..test:443",
            "u@a.test:443",
            "a.test/x:443",
            "a%2etest:443",
            "a.test:443:443",
            "ä.test:443",
            "a b:443",
            "0x7f000001:443",
            "0X7F.1:443",
            "2130706433:443",
            "127.1:443",
            "1.2.3.4.5:443",
            "010.0.0.1:443",
            "[::1:443",
            "::1:443",
            "[::1%lo]:443",
            "[::1]x:443",
            "[]:443",
            "[127.0.0.1]:443",
            "a.test:443\r\n",
            "a.test\0:443",
            "a\\b:443",
            "a.0x:443",
        ];
        for text in cases {
            assert_eq!(parse(text, None), None, "{text:?}");
        }
        let long = format!("{}.test:443", "a".repeat(64));
        assert_eq!(parse(&long, None), None);
    }

    #[test]
    fn own_machine_is_recognised() {
        for text in [
            "localhost:1",
            "x.LOCALHOST:1",
            "127.9.9.9:1",
            "0.0.0.0:1",
            "[::1]:1",
            "[::]:1",
        ] {
            assert!(
                parse(text, None).is_some_and(|(h, _)| h.is_own_machine()),
                "{text}"
            );
        }
        assert!(parse("notlocalhost:1", None).is_some_and(|(h, _)| !h.is_own_machine()));
    }
}
