//! Checks addresses before a connection, whether a host name resolves to them or the request contains them, so that a
//! destination does not lead to the machine itself, to its cloud platform, or into a network that is not public.
use std::net::{IpAddr, Ipv6Addr};

use egress_common::abi::{address as bits, halves};
use egress_common::decide::{self, Known};
use egress_common::place;
use egress_common::verdict::Reason;

use super::allow::AllowList;
use super::host::Host;

/// An address range, written as `address/bits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Reads `address/bits`. A bare address is rejected, as in Pipelock.
    pub fn parse(text: &str) -> Option<Self> {
        let (base, bits) = text.split_once('/')?;
        let base: IpAddr = base.parse().ok()?;
        if bits.is_empty() || bits.len() > 3 || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let bits: u8 = bits.parse().ok()?;
        let longest = if base.is_ipv4() { 32 } else { 128 };
        (bits <= longest).then_some(Self { base, bits })
    }

    /// Returns the first address and the prefix length, as in the kernel's tables.
    pub fn prefix(&self) -> (IpAddr, u8) {
        (self.base, self.bits)
    }

    /// Whether the range contains `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let shift = 32_u32.saturating_sub(u32::from(self.bits));
                (base.to_bits() ^ address.to_bits())
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let shift = 128_u32.saturating_sub(u32::from(self.bits));
                (base.to_bits() ^ address.to_bits())
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Which addresses may be dialed. The kernel programs on the mediator's cgroup apply the same rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SsrfGuard {
    /// Ranges that are allowed although they are not public.
    pub ip_allowlist: Vec<Cidr>,
    /// Names that may resolve to addresses of private networks.
    pub trusted_domains: AllowList,
}

impl SsrfGuard {
    /// Checks one address that `host` is or resolves to, and every IPv4 address embedded in it. `is_own` returns
    /// whether an address belongs to the machine itself.
    ///
    /// # Errors
    /// Returns the reason why the address must not be dialed.
    pub fn check(
        &self,
        host: &Host,
        address: IpAddr,
        is_own: impl Fn(IpAddr) -> bool,
    ) -> Result<(), Reason> {
        let whole = halves(match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        });
        let embedded = place::embedded(whole).into_iter().filter(|none| *none != 0);
        let mut meanings = embedded.map(decide::mapped).chain([whole]);
        let plain = |halves| Ipv6Addr::from(bits(halves)).to_canonical();
        let known = Known {
            is_listed: self
                .ip_allowlist
                .iter()
                .any(|range| range.contains(plain(whole))),
            opens_private: self.trusted_domains.allows(host),
            is_own: meanings.any(|meaning| is_own(plain(meaning))),
            // The relay and the kernel programs check ports, so this guard does not.
            opens_port: true,
        };
        let reason = decide::reach(place::of(whole), known);
        if reason == Reason::None {
            Ok(())
        } else {
            Err(reason)
        }
    }
}
