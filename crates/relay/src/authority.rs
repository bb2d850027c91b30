//! Parses `host:port` strictly. Performs no I/O.
//!
//! CONNECT, absolute form, `Host`, the stub resolver, the policy, and the built-in mediator all use the grammar of
//! [`Host`]. If the relay accepted a name that the mediator rejects, a request would have no receipt. Text that another
//! program could read as a different host, such as userinfo, percent signs, `0x7f.1`, or a zone, is rejected.
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

pub use egress_policy::Host;

/// Destination of a request: a judged host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Host name or address, never a synthetic address.
    pub host: Host,
    /// Port of the destination.
    pub port: u16,
}

/// Formats `host:port` as in CONNECT, always with the port.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Target {
    /// Returns `host`, or `host:port` if the port is not the default port of the scheme.
    pub fn authority(&self, scheme_port: u16) -> String {
        if self.port == scheme_port {
            self.host.to_string()
        } else {
            self.to_string()
        }
    }
}

/// Parses `host` or `host:port`. If the text has no port, the default port is used. If `default_port` is `None`, the
/// text must have a port.
///
/// Returns `None` if the text is not exactly in this form.
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
            (Host::Ip(IpAddr::V6(ip).to_canonical()), port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Host::parse(host).ok()?, Some(port)),
            None => (Host::parse(text).ok()?, None),
        },
    };
    let port = match port {
        Some(digits) => parse_port(digits)?,
        None => default_port?,
    };
    Some((host, port))
}

fn parse_port(digits: &str) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u16>().ok().filter(|&port| port != 0)
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
            // The policy also accepts an address with a trailing dot.
            ("192.0.2.7.:443", "192.0.2.7:443"),
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
            "127.0.0.1..:443",
            "-a.test:443",
            "a-.test:443",
            "a.-b.test:443",
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
