//! Identifies the protocol of a client by its first bytes. Performs no I/O.

/// Protocol of the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    /// More bytes are needed.
    More,
    /// A TLS handshake record.
    Tls,
    /// The start of an HTTP/1 request line.
    Http,
    /// Another protocol, with the label that fits these bytes best.
    Other(&'static str),
}

/// Number of bytes from which [`sniff`] never returns [`Sniffed::More`].
pub const ENOUGH: usize = 32;

/// Classifies the first bytes of a connection.
pub fn sniff(bytes: &[u8]) -> Sniffed {
    let Some(&first) = bytes.first() else {
        return Sniffed::More;
    };
    if first == 0x16 {
        return match (bytes.get(1), bytes.get(2)) {
            (Some(3), Some(0..=4)) => Sniffed::Tls,
            (Some(3), None) | (None, _) => Sniffed::More,
            (Some(_), _) => Sniffed::Other("raw"),
        };
    }
    for (start, label) in KNOWN {
        if bytes.starts_with(start) {
            return Sniffed::Other(label);
        }
        if start.starts_with(bytes) {
            return Sniffed::More;
        }
    }
    if first.is_ascii_uppercase() {
        return request_line(bytes);
    }
    Sniffed::Other("raw")
}

/// First bytes and label of protocols in which the client sends first.
const KNOWN: [(&[u8], &str); 15] = [
    (b"SSH-", "ssh"),
    (b"PRI * HTTP/2", "h2c"),
    (b"EHLO ", "smtp"),
    (b"HELO ", "smtp"),
    (b"LHLO ", "smtp"),
    (b"\x13BitTorrent", "bittorrent"),
    (b"\x04\x01", "socks"),
    (b"\x05\x01", "socks"),
    (b"\x05\x02", "socks"),
    (b"\x05\x03", "socks"),
    (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", "postgresql"),
    (b"*1\r\n$", "redis"),
    (b"*2\r\n$", "redis"),
    (b"*3\r\n$", "redis"),
    (b"<?xml", "xmpp"),
];

/// Checks for a method, one space, and the start of a request target. Other protocols that start with capital letters
/// (`NICK x`, `USER x`) do not send a request target. Any target is accepted after CONNECT, because the target of a
/// CONNECT is a host.
fn request_line(bytes: &[u8]) -> Sniffed {
    let method = bytes
        .iter()
        .take_while(|b| b.is_ascii_uppercase() || **b == b'-')
        .count();
    if method > 24 {
        return Sniffed::Other("raw");
    }
    let (name, rest) = bytes.split_at(method);
    match rest {
        [b' ', ..] if name == b"CONNECT" => Sniffed::Http,
        [] | [b' '] => Sniffed::More,
        [b' ', b'/' | b'*' | b'h' | b'H' | b'f' | b'w', ..] => Sniffed::Http,
        _ => Sniffed::Other("raw"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: protocol
    #[test]
    fn first_bytes_are_distinguished_at_every_length() {
        let cases: [(&[u8], Sniffed); 22] = [
            (b"\x16\x03\x01\x02\x00\x01", Sniffed::Tls),
            (b"\x16\x03\x03", Sniffed::Tls),
            (b"\x16\x02\x03", Sniffed::Other("raw")),
            (b"\x16\x03\x05", Sniffed::Other("raw")),
            (b"GET / HTTP/1.1\r\n", Sniffed::Http),
            (b"M-SEARCH * HTTP/1.1\r\n", Sniffed::Http),
            (b"PUT http://a/ HTTP/1.1", Sniffed::Http),
            (b"CONNECT a.test:443 HTTP/1.1", Sniffed::Http),
            (b"POST /x", Sniffed::Http),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Sniffed::Other("h2c")),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Sniffed::Other("ssh")),
            (b"EHLO host", Sniffed::Other("smtp")),
            (b"NICK me\r\n", Sniffed::Other("raw")),
            (b"get / HTTP/1.1", Sniffed::Other("raw")),
            (b"GET\t/", Sniffed::Other("raw")),
            (b"GET  /", Sniffed::Other("raw")),
            (b"\r\nGET / HTTP/1.1", Sniffed::Other("raw")),
            (b"\x05\x01\x00", Sniffed::Other("socks")),
            (
                b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
                Sniffed::Other("postgresql"),
            ),
            (b"\x80\x2e\x01\x03\x01", Sniffed::Other("raw")),
            (b"*1\r\n$4\r\nPING\r\n", Sniffed::Other("redis")),
            (b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Sniffed::Other("raw")),
        ];
        for (bytes, expected) in cases {
            assert_eq!(sniff(bytes), expected, "{bytes:?}");
            let mut told = false;
            for end in 0..=bytes.len() {
                match sniff(&bytes[..end]) {
                    Sniffed::More => assert!(!told, "went back at {end}: {bytes:?}"),
                    found @ (Sniffed::Tls | Sniffed::Http | Sniffed::Other(_)) => {
                        assert_eq!(found, expected, "at {end}: {bytes:?}");
                        told = true;
                    }
                }
            }
        }
    }

    #[test]
    fn enough_bytes_always_tell() {
        for first in 0..=255_u8 {
            for fill in [first, b' ', b'A', 0] {
                let mut bytes = vec![fill; ENOUGH];
                bytes[0] = first;
                assert_ne!(sniff(&bytes), Sniffed::More, "{bytes:?}");
            }
        }
    }
}
