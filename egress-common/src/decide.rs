//! The decision of every address hook: pure, so it is tested on the host and is the same code
//! that runs in the kernel.
use crate::abi::Config;
use crate::names::{
    ADDRCONFIG_V4, ADDRCONFIG_V6, DNS_PORT, SYNTHETIC_V4, SYNTHETIC_V6, TRANSPARENT_PORT,
};
use crate::verdict::{Reason, Verdict};

/// `SOCK_STREAM`.
pub const SOCK_STREAM: u32 = 1;
/// `SOCK_DGRAM`.
pub const SOCK_DGRAM: u32 = 2;
/// `IPPROTO_TCP`.
pub const IPPROTO_TCP: u32 = 6;
/// `IPPROTO_UDP`.
pub const IPPROTO_UDP: u32 = 17;
/// DNS over TLS (RFC 7858).
const DNS_OVER_TLS_PORT: u16 = 853;
/// First 12 bytes of an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2).
pub const MAPPED_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// The family on the wire of a destination given in 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// IPv4, also when asked for as `::ffff:a.b.c.d`.
    V4,
    /// IPv6.
    V6,
}

/// What a hook is asked about: one destination of one socket.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Destination; IPv4 as `::ffff:a.b.c.d`.
    pub addr: [u8; 16],
    /// Destination port, host order.
    pub port: u16,
    /// Socket type, `SOCK_*`.
    pub sock_type: u32,
    /// Protocol, `IPPROTO_*`.
    pub protocol: u32,
}

/// A verdict with its reason.
pub type Decision = (Verdict, Reason);

impl Attempt {
    /// The family that packets to this destination have.
    #[inline(always)]
    pub fn wire(&self) -> Wire {
        // Word compares keep the kernel's verifier cheap.
        if self.high() == 0 && self.word(8) == u32::from_be_bytes([0, 0, 0xff, 0xff]) {
            Wire::V4
        } else {
            Wire::V6
        }
    }

    #[inline(always)]
    fn word(&self, at: usize) -> u32 {
        let a = &self.addr;
        match at {
            8 => u32::from_be_bytes([a[8], a[9], a[10], a[11]]),
            _ => u32::from_be_bytes([a[12], a[13], a[14], a[15]]),
        }
    }

    #[inline(always)]
    fn high(&self) -> u64 {
        let a = &self.addr;
        u64::from_be_bytes([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]])
    }

    /// Whether the destination is this namespace itself. 0.0.0.0 and `::` mean loopback to
    /// `connect(2)`; the two addresses that keep `AI_ADDRCONFIG` content are on `lo` as well.
    #[inline(always)]
    pub fn is_local(&self) -> bool {
        match self.wire() {
            Wire::V4 => {
                let v4 = self.word(12);
                v4 >> 24 == 127 || v4 == 0 || v4 == u32::from_be_bytes(ADDRCONFIG_V4)
            }
            Wire::V6 => {
                let low = (u64::from(self.word(8)) << 32) | u64::from(self.word(12));
                (self.high() == 0 && low <= 1) || self.addr == ADDRCONFIG_V6
            }
        }
    }

    /// Whether the destination is an address that the stub resolver made up.
    #[inline(always)]
    pub fn is_synthetic(&self) -> bool {
        match self.wire() {
            Wire::V4 => {
                let (base, bits) = SYNTHETIC_V4;
                self.word(12) >> (32 - bits) == u32::from_be_bytes(base) >> (32 - bits)
            }
            Wire::V6 => {
                let b = SYNTHETIC_V6.0;
                self.high() == u64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
            }
        }
    }
}

/// Decides a `connect(2)`.
#[inline(always)]
pub fn connect(attempt: &Attempt, config: &Config) -> Decision {
    if attempt.sock_type == SOCK_STREAM && attempt.protocol == IPPROTO_TCP {
        return connect_tcp(attempt, config);
    }
    if attempt.sock_type == SOCK_DGRAM && attempt.protocol == IPPROTO_UDP {
        return match datagram(attempt) {
            // getaddrinfo() connects UDP sockets to sort its answers (RFC 6724).
            (Verdict::Deny, Reason::Udp) if attempt.is_synthetic() => (Verdict::Probe, Reason::Udp),
            other => other,
        };
    }
    (Verdict::Deny, Reason::Protocol)
}

#[inline(always)]
fn connect_tcp(attempt: &Attempt, config: &Config) -> Decision {
    if attempt.is_local() {
        return if attempt.port == TRANSPARENT_PORT {
            (Verdict::Deny, Reason::ControlPort)
        } else if attempt.port == config.proxy_port() {
            (Verdict::Proxy, Reason::None)
        } else {
            (Verdict::Local, Reason::None)
        };
    }
    if attempt.port == DNS_PORT || attempt.port == DNS_OVER_TLS_PORT {
        return (Verdict::Deny, Reason::Dns);
    }
    if attempt.wire() == Wire::V6 && config.ipv6 == 0 {
        return (Verdict::Deny, Reason::NoIpv6);
    }
    (Verdict::Redirect, Reason::None)
}

/// Decides a datagram that names its destination (`sendto`, `sendmsg`), or the UDP half of a connect.
#[inline(always)]
pub fn datagram(attempt: &Attempt) -> Decision {
    if attempt.is_local() {
        (Verdict::Local, Reason::None)
    } else if attempt.port == DNS_PORT || attempt.port == DNS_OVER_TLS_PORT {
        (Verdict::Deny, Reason::Dns)
    } else {
        (Verdict::Deny, Reason::Udp)
    }
}

/// Decides a new AF_INET or AF_INET6 socket: TCP and UDP, nothing else.
#[inline(always)]
pub fn socket(sock_type: u32, protocol: u32) -> Decision {
    match (sock_type, protocol) {
        (SOCK_STREAM, IPPROTO_TCP) | (SOCK_DGRAM, IPPROTO_UDP) => (Verdict::Local, Reason::None),
        _ => (Verdict::Deny, Reason::SocketType),
    }
}

#[cfg(test)]
mod tests;
