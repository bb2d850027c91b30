//! The decisions of the hooks. The code does not call kernel helpers, so that the tests on the host run the same code
//! as the kernel.
use crate::abi::{Config, MAPPED, halves};
use crate::names::{
    ADDRCONFIG_V4, ADDRCONFIG_V6, DNS_PORT, SYNTHETIC_V4, SYNTHETIC_V6, TRANSPARENT_PORT,
};
use crate::place::Place;
use crate::verdict::{Reason, Verdict};

/// `SOCK_STREAM`.
pub const SOCK_STREAM: u32 = 1;
/// `SOCK_DGRAM`.
pub const SOCK_DGRAM: u32 = 2;
/// `IPPROTO_TCP`.
pub const IPPROTO_TCP: u32 = 6;
/// `IPPROTO_UDP`.
pub const IPPROTO_UDP: u32 = 17;
/// Port of DNS over TLS (RFC 7858).
const DNS_OVER_TLS_PORT: u32 = 853;
/// Returns the halves of `::ffff:a.b.c.d`. `v4` is the IPv4 address as a number.
#[inline(always)]
pub const fn mapped(v4: u32) -> [u64; 2] {
    [0, MAPPED | v4 as u64]
}

/// The address family of packets to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// IPv4, even if the destination is written as `::ffff:a.b.c.d`.
    V4,
    /// IPv6.
    V6,
}

/// An attempt of one socket to reach one destination, which a hook judges.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Destination as two numbers, high half first, with IPv4 as `::ffff:a.b.c.d`.
    pub addr: [u64; 2],
    /// Destination port.
    pub port: u32,
    /// Socket type, `SOCK_*`.
    pub sock_type: u32,
    /// Protocol, `IPPROTO_*`.
    pub protocol: u32,
}

/// A verdict with its reason.
pub type Decision = (Verdict, Reason);

impl Attempt {
    /// Returns the address family of packets to this destination.
    #[inline(always)]
    pub fn wire(&self) -> Wire {
        let [high, low] = self.addr;
        if high == 0 && low & !0xffff_ffff == MAPPED {
            Wire::V4
        } else {
            Wire::V6
        }
    }

    /// Returns the IPv4 address of a destination that is IPv4 on the wire.
    #[inline(always)]
    fn v4(&self) -> u32 {
        self.addr[1] as u32
    }

    /// Returns whether the destination is in this network namespace. `connect(2)` treats 0.0.0.0 and `::` as loopback,
    /// and the two addresses for `AI_ADDRCONFIG` are also on `lo`.
    #[inline(always)]
    pub fn is_local(&self) -> bool {
        match self.wire() {
            Wire::V4 => {
                let v4 = self.v4();
                v4 >> 24 == 127 || v4 == 0 || v4 == u32::from_be_bytes(ADDRCONFIG_V4)
            }
            Wire::V6 => {
                let [high, low] = self.addr;
                (high == 0 && low <= 1) || self.addr == ADDRCONFIG_V6_HALVES
            }
        }
    }

    /// Returns whether the destination is a synthetic address of the stub resolver.
    #[inline(always)]
    pub fn is_synthetic(&self) -> bool {
        match self.wire() {
            Wire::V4 => {
                let (base, bits) = SYNTHETIC_V4;
                self.v4() >> (32 - bits) == u32::from_be_bytes(base) >> (32 - bits)
            }
            Wire::V6 => self.addr[0] == SYNTHETIC_V6_HIGH,
        }
    }
}

const ADDRCONFIG_V6_HALVES: [u64; 2] = halves(u128::from_be_bytes(ADDRCONFIG_V6));
const SYNTHETIC_V6_HIGH: u64 = halves(u128::from_be_bytes(SYNTHETIC_V6.0))[0];

/// Decides a `connect(2)`.
#[inline(always)]
pub fn connect(attempt: &Attempt, config: &Config) -> Decision {
    if attempt.sock_type == SOCK_STREAM && attempt.protocol == IPPROTO_TCP {
        return connect_tcp(attempt, config);
    }
    if attempt.sock_type == SOCK_DGRAM && attempt.protocol == IPPROTO_UDP {
        return match datagram(attempt) {
            // Resolvers connect UDP sockets to sort their answers (RFC 6724). getaddrinfo()
            // connects to the requested port, and Go's resolver always to port 53.
            (Verdict::Deny, reason) if attempt.is_synthetic() => (Verdict::Probe, reason),
            other => other,
        };
    }
    (Verdict::Deny, Reason::Protocol)
}

#[inline(always)]
fn connect_tcp(attempt: &Attempt, config: &Config) -> Decision {
    if attempt.is_local() {
        return if attempt.port == TRANSPARENT_PORT as u32 {
            (Verdict::Deny, Reason::ControlPort)
        } else if attempt.port == config.proxy_port {
            (Verdict::Proxy, Reason::None)
        } else {
            (Verdict::Local, Reason::None)
        };
    }
    if attempt.port == DNS_PORT as u32 || attempt.port == DNS_OVER_TLS_PORT {
        return (Verdict::Deny, Reason::Dns);
    }
    if attempt.wire() == Wire::V6 && config.ipv6 == 0 {
        return (Verdict::Deny, Reason::NoIpv6);
    }
    (Verdict::Redirect, Reason::None)
}

/// Decides a datagram with a destination (`sendto`, `sendmsg`), or a `connect(2)` of a UDP socket.
#[inline(always)]
pub fn datagram(attempt: &Attempt) -> Decision {
    if attempt.is_local() {
        (Verdict::Local, Reason::None)
    } else if attempt.port == DNS_PORT as u32 || attempt.port == DNS_OVER_TLS_PORT {
        (Verdict::Deny, Reason::Dns)
    } else {
        (Verdict::Deny, Reason::Udp)
    }
}

/// Properties of an address and a port that the mediator connects to, as they apply in this run.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The policy lists the address (`ssrf.ip_allowlist`).
    pub is_listed: bool,
    /// The policy allows private networks (`trusted_domains`).
    pub opens_private: bool,
    /// The address belongs to the machine.
    pub is_own: bool,
    /// The run allows the port.
    pub opens_port: bool,
}

/// Returns why the mediator must not reach an address, or [`Reason::None`] if it may.
#[inline(always)]
pub const fn reach(place: Place, known: Known) -> Reason {
    match place {
        Place::Platform => Reason::PlatformAddress,
        _ if known.is_listed => Reason::None,
        _ if known.is_own => Reason::OwnAddress,
        Place::Special => Reason::NotPublic,
        Place::Private if !known.opens_private => Reason::NotPublic,
        _ if !known.opens_port => Reason::Port,
        Place::Private | Place::Public => Reason::None,
    }
}

/// Returns the decision, or in audit mode the decision that is only recorded.
///
/// The setting is in the read-only `CONFIG`, so that the kernel's verifier removes the unused half of each program.
#[inline(always)]
pub const fn enacted((verdict, reason): Decision, config: &Config) -> Decision {
    if config.audit == 0 {
        return (verdict, reason);
    }
    let would = match verdict {
        Verdict::Deny | Verdict::Probe | Verdict::WouldDeny => Verdict::WouldDeny,
        Verdict::Redirect | Verdict::WouldRedirect => Verdict::WouldRedirect,
        Verdict::Local | Verdict::Proxy => Verdict::Local,
    };
    (would, reason)
}

/// Returns whether the call is allowed.
#[inline(always)]
pub const fn passes(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Local
        | Verdict::Proxy
        | Verdict::Redirect
        | Verdict::WouldDeny
        | Verdict::WouldRedirect => true,
        Verdict::Deny | Verdict::Probe => false,
    }
}

/// Decides a new AF_INET or AF_INET6 socket. Only TCP and UDP are allowed.
#[inline(always)]
pub fn socket(sock_type: u32, protocol: u32) -> Decision {
    match (sock_type, protocol) {
        (SOCK_STREAM, IPPROTO_TCP) | (SOCK_DGRAM, IPPROTO_UDP) => (Verdict::Local, Reason::None),
        _ => (Verdict::Deny, Reason::SocketType),
    }
}

#[cfg(test)]
mod tests;
