//! Parses the destination of a UDP datagram from its IP packet. The code does not call kernel helpers, so that the
//! tests on the host run the same code as the kernel.
use crate::decide::{IPPROTO_UDP, mapped};

/// Maximum number of extension headers that are skipped. RFC 8200, section 4.1, recommends that each of the six
/// extension headers occur at most once, except Destination Options, which may occur twice. A packet that follows this
/// recommendation has at most seven.
const MOST_EXTENSIONS: u32 = 8;

// Next header values (RFC 8200, section 4; RFC 4302 for the last one).
const HOP_BY_HOP: u32 = 0;
const ROUTING: u32 = 43;
const FRAGMENT: u32 = 44;
const DESTINATION: u32 = 60;
const AUTHENTICATION: u32 = 51;

/// The destination of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagram {
    /// Destination address as two numbers, with IPv4 as `::ffff:a.b.c.d`. Zero if the packet
    /// contains no address.
    pub addr: [u64; 2],
    /// Destination port. 0 if the packet contains no port, so that the packet is conspicuous in the
    /// record.
    pub port: u32,
    /// Offset of the payload in the packet; 0 if the packet contains no port.
    pub payload: usize,
}

/// Parses the headers of an IP packet that carries UDP. `word` returns the four bytes at an offset as a number, or
/// `None` beyond the end of the packet.
#[inline(always)]
pub fn parse(word: impl Fn(usize) -> Option<u32>) -> Datagram {
    match word(0).unwrap_or_default() >> 28 {
        4 => parse_v4(word),
        6 => parse_v6(word),
        _ => Datagram::default(),
    }
}

/// Parses an IPv4 packet (RFC 791, section 3.1).
#[inline(always)]
fn parse_v4(word: impl Fn(usize) -> Option<u32>) -> Datagram {
    let (Some(first), Some(fragment), Some(protocol), Some(addr)) =
        (word(0), word(4), word(8), word(16))
    else {
        return Datagram::default();
    };
    let addr = mapped(addr);
    let length = (first >> 24 & 0xf) as usize * 4;
    let is_later_fragment = fragment & 0x1fff != 0;
    if length < 20 || is_later_fragment || protocol >> 16 & 0xff != IPPROTO_UDP {
        return no_port(addr);
    }
    udp(addr, length, word)
}

/// Parses an IPv6 packet (RFC 8200, sections 3 and 4).
#[inline(always)]
fn parse_v6(word: impl Fn(usize) -> Option<u32>) -> Datagram {
    let (Some(a), Some(b), Some(c), Some(d)) = (word(24), word(28), word(32), word(36)) else {
        return Datagram::default();
    };
    let join = |high: u32, low: u32| (high as u64) << 32 | low as u64;
    let addr = [join(a, b), join(c, d)];
    let mut next = word(4).unwrap_or_default() >> 8 & 0xff;
    let mut at = 40;
    let mut passed = 0;
    while next != IPPROTO_UDP {
        let Some(head) = word(at) else {
            return no_port(addr);
        };
        let length = (head >> 16 & 0xff) as usize;
        let is_later_fragment = next == FRAGMENT && head & 0xfff8 != 0;
        passed += 1;
        if is_later_fragment || passed > MOST_EXTENSIONS {
            return no_port(addr);
        }
        at += match next {
            HOP_BY_HOP | ROUTING | DESTINATION => (length + 1) * 8,
            FRAGMENT => 8,
            AUTHENTICATION => (length + 2) * 4,
            _ => return no_port(addr),
        };
        next = head >> 24;
    }
    udp(addr, at, word)
}

/// Parses the UDP header, which has eight bytes, with both ports in its first word (RFC 768).
#[inline(always)]
fn udp(addr: [u64; 2], at: usize, word: impl Fn(usize) -> Option<u32>) -> Datagram {
    let (Some(ports), Some(_)) = (word(at), word(at + 4)) else {
        return no_port(addr);
    };
    Datagram {
        addr,
        port: ports & 0xffff,
        payload: at + 8,
    }
}

const fn no_port(addr: [u64; 2]) -> Datagram {
    Datagram {
        addr,
        port: 0,
        payload: 0,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    fn read(packet: &[u8]) -> Datagram {
        parse(|at| {
            let bytes = packet.get(at..at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().unwrap()))
        })
    }

    /// Builds an IPv4 packet with `options` whole words of options.
    fn v4(options: u8) -> Vec<u8> {
        let mut packet = vec![0; 20 + usize::from(options) * 4];
        packet[0] = 0x45 + options;
        packet[9] = 17;
        packet[16..20].copy_from_slice(&[198, 51, 100, 53]);
        packet.extend([0x9c, 0x40, 0, 53, 0, 12, 0, 0]);
        packet.extend(*b"ABCD");
        packet
    }

    /// Builds an IPv6 packet with these extension headers, each with its own next header value in
    /// front.
    fn v6(extensions: &[(u8, &[u8])]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[24..28].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        packet[39] = 0x53;
        let kinds = extensions.iter().map(|(kind, _)| *kind).chain([17]);
        let mut at = 6;
        for (number, kind) in kinds.enumerate() {
            packet[at] = kind;
            at = packet.len();
            if let Some((_, header)) = extensions.get(number) {
                packet.extend(*header);
            }
        }
        packet.extend([0x9c, 0x40, 0, 53, 0, 12, 0, 0]);
        packet.extend(*b"ABCD");
        packet
    }

    const RESOLVER_V6: [u64; 2] = [0x2001_0db8_0000_0000, 0x53];

    #[test]
    fn name_server_is_found_behind_options_and_extension_headers() {
        for options in 0..=10 {
            let packet = v4(options);
            let found = read(&packet);
            assert_eq!((found.addr, found.port), (mapped(0xc633_6435), 53));
            assert_eq!(&packet[found.payload..], b"ABCD");
        }
        let empty = [0; 8];
        let long = {
            let mut header = [0; 24];
            header[1] = 2;
            header
        };
        let authentication = {
            let mut header = [0; 24];
            header[1] = 4;
            header
        };
        for extensions in [
            &[] as &[(u8, &[u8])],
            &[(0, &empty)],
            &[(0, &long), (60, &empty), (43, &long), (44, &empty)],
            &[(51, &authentication), (60, &long)],
        ] {
            let packet = v6(extensions);
            let found = read(&packet);
            assert_eq!(
                (found.addr, found.port),
                (RESOLVER_V6, 53),
                "{extensions:?}"
            );
            assert_eq!(&packet[found.payload..], b"ABCD");
        }
    }

    /// Claims: mediator-datagrams
    #[test]
    fn packet_that_shows_no_port_is_a_datagram_to_port_0() {
        let mut later = v4(0);
        later[7] = 1;
        let mut tcp = v4(0);
        tcp[9] = 6;
        let mut short = v4(0);
        short[0] = 0x44;
        for packet in [later, tcp, short] {
            assert_eq!(read(&packet), no_port(mapped(0xc633_6435)));
        }
        let fragment: [u8; 8] = [0, 0, 0, 8, 0, 0, 0, 0];
        let empty: [u8; 8] = [0; 8];
        let many = [(60, &empty as &[u8]); MOST_EXTENSIONS as usize + 1];
        for extensions in [&[(44, &fragment as &[u8])], &many[..], &[(50, &empty)]] {
            assert_eq!(read(&v6(extensions)), no_port(RESOLVER_V6));
        }
        assert_eq!(read(&v6(&many[1..])).port, 53);
    }

    #[test]
    fn packet_that_is_cut_anywhere_is_read_without_its_end() {
        let empty = [0; 8];
        for packet in [v4(0), v4(10), v6(&[]), v6(&[(0, &empty), (44, &empty)])] {
            let whole = read(&packet);
            for end in 0..packet.len() {
                let cut = read(&packet[..end]);
                let is_known = end >= whole.payload;
                assert_eq!(cut.port, if is_known { 53 } else { 0 }, "{end}");
            }
        }
    }
}
