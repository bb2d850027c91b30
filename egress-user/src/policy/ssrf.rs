//! The guard over resolved addresses: a public name must not lead into the runner's own networks.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::allow::AllowList;
use super::host::Host;

/// The address that cloud providers serve credentials from. No exception opens it.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// An address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Reads `address/bits`; a bare address is refused, as Pipelock refuses it.
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

    const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Self {
        Self {
            base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            bits,
        }
    }

    const fn v6(first: u16, second: u16, bits: u8) -> Self {
        Self {
            base: IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0)),
            bits,
        }
    }

    /// Whether the range holds `address`.
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

/// Pipelock's list, and what it leaves open: the benchmarking range, out of which the relay gives
/// names their synthetic addresses (none may ever be dialled), and the reserved one.
const INTERNAL: &[Cidr] = &[
    Cidr::v4(0, 0, 0, 0, 8),
    Cidr::v4(10, 0, 0, 0, 8),
    Cidr::v4(100, 64, 0, 0, 10),
    Cidr::v4(127, 0, 0, 0, 8),
    Cidr::v4(169, 254, 0, 0, 16),
    Cidr::v4(172, 16, 0, 0, 12),
    Cidr::v4(192, 168, 0, 0, 16),
    Cidr::v4(198, 18, 0, 0, 15),
    Cidr::v4(224, 0, 0, 0, 4),
    Cidr::v4(240, 0, 0, 0, 4),
    Cidr::v6(0xfc00, 0, 7),
    Cidr::v6(0xfe80, 0, 10),
    Cidr::v6(0xfec0, 0, 10),
    Cidr::v6(0xff00, 0, 8),
    // `::` and `::1`, and with them the whole range that once embedded IPv4 addresses.
    Cidr::v6(0, 0, 96),
];

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It lies in a network of the runner's side.
    Internal,
    /// It is the cloud metadata endpoint.
    Metadata,
}

/// Which resolved addresses may be dialled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SsrfGuard {
    /// Ranges that are open although internal.
    pub ip_allowlist: Vec<Cidr>,
    /// Names that may resolve to internal addresses.
    pub trusted_domains: AllowList,
}

impl SsrfGuard {
    /// Judges one address that `host` stands for.
    ///
    /// # Errors
    /// When it must not be dialled.
    pub fn check(&self, host: &Host, address: IpAddr) -> Result<(), Refusal> {
        let mut meanings = vec![address.to_canonical()];
        if let IpAddr::V6(v6) = address {
            meanings.extend(embedded(v6).map(IpAddr::V4));
        }
        if meanings.contains(&IpAddr::V4(METADATA)) {
            return Err(Refusal::Metadata);
        }
        if self.trusted_domains.allows(host) {
            return Ok(());
        }
        for meaning in meanings {
            let opened = self
                .ip_allowlist
                .iter()
                .any(|range| range.contains(meaning));
            if !opened && INTERNAL.iter().any(|range| range.contains(meaning)) {
                return Err(Refusal::Internal);
            }
        }
        Ok(())
    }
}

/// The IPv4 address that a translating or tunnelling router would take out of `address`:
/// NAT64 (`64:ff9b::/96` and `64:ff9b:1::/48`), 6to4 (`2002::/16`), Teredo (`2001::/32`).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0x0064, 0xff9b, .., high, low] | [0x2002, high, low, ..] => Some(join(high, low)),
        [0x2001, 0, .., high, low] => Some(join(!high, !low)),
        _ => None,
    }
}
