//! Classifies an address as public, or as an address to which a public name must not resolve. The
//! result does not depend on the machine. The kernel programs and the built-in mediator use the
//! same code.
//!
//! The ranges are the ranges in IANA's special-purpose registries (RFC 6890 and its updates) that
//! are not globally reachable. The documentation ranges (RFC 5737, RFC 3849, RFC 9637) are left out
//! because they lead nowhere.
use crate::abi::{MAPPED, halves};

/// Class of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address of a host on the Internet.
    Public,
    /// An address of a private network: RFC 1918, RFC 4193, or RFC 6598.
    Private,
    /// An address that no host has, or an address of the machine itself or of its link.
    Special,
    /// An address at which the cloud platform serves credentials or configuration of the machine.
    Platform,
}

/// An IPv4 range: its first address and its prefix length.
type V4Range = ([u8; 4], u32);

/// Private networks.
const PRIVATE_V4: [V4Range; 4] = [
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([172, 16, 0, 0], 12),
    ([192, 168, 0, 0], 16),
];

/// Special ranges. The relay's synthetic addresses are in 198.18.0.0/15, and 192.88.99.0/24 leads to 6to4 relays.
const SPECIAL_V4: [V4Range; 8] = [
    ([0, 0, 0, 0], 8),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([192, 0, 0, 0], 24),
    ([192, 88, 99, 0], 24),
    ([198, 18, 0, 0], 15),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Services of cloud platforms: metadata of AWS, Azure, Google Cloud, and others, credentials of ECS and EKS, Azure's
/// wire server, and metadata of the first generation of Oracle Cloud, of Alibaba Cloud, Scaleway, and Tencent Cloud.
const PLATFORM_V4: [V4Range; 8] = [
    ([169, 254, 169, 254], 32),
    ([169, 254, 170, 2], 32),
    ([169, 254, 170, 23], 32),
    ([168, 63, 129, 16], 32),
    ([192, 0, 0, 192], 32),
    ([100, 100, 100, 200], 32),
    ([169, 254, 42, 42], 32),
    ([169, 254, 0, 23], 32),
];

/// IPv6 addresses of such services: AWS (metadata, EKS), Google Cloud, Akamai (Linode), Scaleway, and OpenStack.
const PLATFORM_V6: [[u64; 2]; 6] = [
    halves(0xfd00_0ec2_0000_0000_0000_0000_0000_0254),
    halves(0xfd00_0ec2_0000_0000_0000_0000_0000_0023),
    halves(0xfd20_00ce_0000_0000_0000_0000_0000_0254),
    halves(0xfd00_a9fe_a9fe_0000_0000_0000_0000_0001),
    halves(0xfd00_0042_0000_0000_0000_0000_0000_0042),
    halves(0xfe80_0000_0000_0000_0000_0000_a9fe_a9fe),
];

/// `64:ff9b::/32`, which has both prefixes for NAT64: the well-known one (RFC 6052) and the local one (RFC 8215).
const NAT64_HIGH: u64 = 0x0064_ff9b;

/// Maximum number of IPv4 addresses that one IPv6 address may embed.
pub const EMBEDDED: usize = 6;

/// Classifies an address and the IPv4 addresses that it embeds. Returns the most restricted class.
#[inline(always)]
pub fn of(addr: [u64; 2]) -> Place {
    of_marks(marks(addr))
}

/// Returns the classes of an address and its embedded addresses as bits, for [`of_marks`].
#[inline(always)]
pub fn marks(addr: [u64; 2]) -> u64 {
    let [high, low] = addr;
    let is_v4 = high == 0 && low >> 32 == MAPPED >> 32;
    let mut marks = if is_v4 {
        marks_of_v4(low as u32)
    } else {
        marks_of_v6(addr)
    };
    let readings = embedded(addr);
    let mut at = 0;
    while at < EMBEDDED {
        marks |= marks_of_v4(readings[at]) * (1 - is_zero(u64::from(readings[at])));
        at += 1;
    }
    marks
}

/// Returns the most restricted class in the bits.
#[inline(always)]
pub const fn of_marks(marks: u64) -> Place {
    if marks & PLATFORM != 0 {
        Place::Platform
    } else if marks & SPECIAL != 0 {
        Place::Special
    } else if marks & PRIVATE != 0 {
        Place::Private
    } else {
        Place::Public
    }
}

// Bits are used instead of branches, because the kernel's verifier follows both sides of each branch.
const PRIVATE: u64 = 1;
const SPECIAL: u64 = 2;
const PLATFORM: u64 = 4;

#[inline(always)]
fn marks_of_v4(v4: u32) -> u64 {
    (is_in(v4, &PRIVATE_V4) * PRIVATE)
        | (is_in(v4, &SPECIAL_V4) * SPECIAL)
        | (is_in(v4, &PLATFORM_V4) * PLATFORM)
}

#[inline(always)]
fn is_in(v4: u32, ranges: &[V4Range]) -> u64 {
    let mut found = 0;
    let mut at = 0;
    while at < ranges.len() {
        let (base, bits) = ranges[at];
        found |= is_zero(u64::from((v4 ^ u32::from_be_bytes(base)) >> (32 - bits)));
        at += 1;
    }
    found
}

#[inline(always)]
fn marks_of_v6([high, low]: [u64; 2]) -> u64 {
    let mut platform = 0;
    let mut at = 0;
    while at < PLATFORM_V6.len() {
        let [base_high, base_low] = PLATFORM_V6[at];
        platform |= is_same(high, base_high) & is_same(low, base_low);
        at += 1;
    }
    // fc00::/7
    let private = is_same(high >> 57, 0x7e);
    // RFC 6052, section 2.2: the bits from 64 to 71 are zero.
    let nat64 = is_same(high >> 32, NAT64_HIGH) & is_zero(low >> 56);
    // Global unicast is 2000::/3, except 2001::/23, which is for protocols (Teredo, benchmarks, ORCHID).
    let global = is_same(high >> 61, 1) & (1 - is_same(high >> 41, 0x2001_0000 >> 9));
    let special = 1 - (private | nat64 | global);
    (platform * PLATFORM) | (private * PRIVATE) | (special * SPECIAL)
}

/// Returns 1 if the numbers are equal, otherwise 0.
#[inline(always)]
const fn is_same(one: u64, other: u64) -> u64 {
    let differs = one ^ other;
    is_zero(differs >> 32 | differs & 0xffff_ffff)
}

/// Returns 1 for zero, and 0 for any other number up to 2^63.
#[inline(always)]
const fn is_zero(number: u64) -> u64 {
    number.wrapping_sub(1) >> 63
}

/// Returns the IPv4 addresses that a translator or a tunnel could extract from an IPv6 address; 0 means none. Addresses
/// in 0.0.0.0/8 are left out, because no packet is routed there.
///
/// A NAT64 address is parsed with each of the six prefix lengths of RFC 6052, section 2.2, because the prefix length
/// depends on the network.
#[inline(always)]
pub fn embedded([high, low]: [u64; 2]) -> [u32; EMBEDDED] {
    let nat64 = is_same(high >> 32, NAT64_HIGH) as u32;
    // 6to4 (RFC 3056), and ISATAP (RFC 5214, section 6.1).
    let six_to_four = is_same(high >> 48, 0x2002) as u32;
    let isatap = is_same(low >> 32 & !0x0200_0000, 0x5efe) as u32;
    let readings = [
        (nat64 * high as u32) | (six_to_four * (high >> 16) as u32),
        (nat64 * ((high << 8) as u32 | (low >> 48) as u32 & 0xff)) | (isatap * low as u32),
        nat64 * ((high << 16) as u32 | (low >> 40) as u32 & 0xffff),
        nat64 * ((high << 24) as u32 | (low >> 32) as u32 & 0x00ff_ffff),
        nat64 * (low >> 24) as u32,
        nat64 * low as u32,
    ];
    readings.map(|v4| v4 * (((v4 >> 24) + 0xff) >> 8))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::net::{IpAddr, Ipv4Addr};
    use std::string::{String, ToString};
    use std::vec::Vec;

    use super::*;

    fn parse(text: &str) -> [u64; 2] {
        halves(match text.parse::<IpAddr>().unwrap() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
            IpAddr::V6(v6) => v6.into(),
        })
    }

    /// Claims: address-rule
    #[test]
    fn ranges_of_the_registries_end_where_they_should() {
        for (place, addresses) in [
            (
                Place::Public,
                "1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
                 168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 \
                 192.0.1.0 192.0.2.1 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 \
                 198.20.0.0 198.51.100.1 203.0.113.1 223.255.255.255 ::ffff:8.8.8.8 2000:: 2001:200:: \
                 2001:db8::1 2606:4700::1 3fff::1 3fff:ffff:: 64:ff9b::808:808 64:ff9b:1::808:808 \
                 2002:808:808::1 2606:4700::5efe:8.8.8.8",
            ),
            (
                Place::Private,
                "10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 172.16.0.0 172.31.255.255 192.168.0.0 \
                 192.168.255.255 ::ffff:10.0.0.1 fc00:: fdff:ffff::1 64:ff9b::10.0.0.1 64:ff9b:a00:1:: \
                 64:ff9b:0a:0:1:: 64:ff9b:0:0a00:0:100:: 64:ff9b:1:a:0:1:: 64:ff9b:1:0:a:0:100:: \
                 2002:a00:1::1 2606:4700::5efe:10.0.0.1 2606:4700::200:5efe:10.0.0.1",
            ),
            (
                Place::Special,
                "0.0.0.0 0.255.255.255 127.0.0.0 127.255.255.255 169.254.0.0 169.254.255.255 192.0.0.0 192.0.0.8 \
                 192.0.0.255 192.88.99.1 198.18.0.0 198.19.255.255 224.0.0.0 239.255.255.255 240.0.0.0 \
                 255.255.255.255 ::ffff:127.0.0.1 :: ::1 ::127.0.0.1 ::ffff:0:7f00:1 100::1 100:0:0:1::1 \
                 64:ff9b:0:0:100::1 64:ff9b::127.0.0.1 2002:7f00:1::1 2001::1 2001:2::1 2001:10::1 2001:1ff:ffff:: 1fff:: \
                 4000:: 5f00::1 fe00:: fe80::1 febf::1 fec0::1 ff02::1 ffff::",
            ),
            (
                Place::Platform,
                "169.254.169.254 169.254.170.2 169.254.170.23 168.63.129.16 192.0.0.192 100.100.100.200 \
                 169.254.42.42 169.254.0.23 ::ffff:169.254.169.254 ::ffff:168.63.129.16 64:ff9b::169.254.169.254 64:ff9b:1:a83f:81:1000:: \
                 2002:a9fe:a9fe::1 fd00:ec2::254 fd00:ec2::23 fd20:ce::254 \
                 fd00:a9fe:a9fe::1 fd00:42::42 fe80::a9fe:a9fe",
            ),
        ] {
            for address in addresses.split_whitespace() {
                assert_eq!(of(parse(address)), place, "{address}");
            }
        }
    }

    /// Returns the embedded addresses of an address as text, or `-` for none.
    fn readings(text: &str) -> String {
        let found = embedded(parse(text)).map(|found| match found {
            0 => String::from("-"),
            found => Ipv4Addr::from_bits(found).to_string(),
        });
        found.into_iter().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn nat64_is_read_by_every_prefix_length() {
        // The examples of RFC 6052, section 2.4, under this prefix.
        for (address, at) in [
            ("64:ff9b:c000:221::", 0),
            ("64:ff9b:1c0:2:21::", 1),
            ("64:ff9b:1:c000:2:2100::", 2),
            ("64:ff9b:1:1c0:0:221::", 3),
            ("64:ff9b:1:1:c0:2:2100::", 4),
            ("64:ff9b::192.0.2.33", 5),
            ("64:ff9b:1::192.0.2.33", 5),
        ] {
            let found = readings(address);
            assert_eq!(
                found.split(' ').nth(at),
                Some("192.0.2.33"),
                "{address}: {found}"
            );
        }
        assert_eq!(readings("64:ff9b::8.8.8.8"), "- - - - - 8.8.8.8");
        assert_eq!(readings("64:ff9b::"), "- - - - - -");
    }

    #[test]
    fn tunnels_are_read_and_other_addresses_are_not() {
        assert_eq!(readings("2002:a00:1::1"), "10.0.0.1 - - - - -");
        assert_eq!(readings("2606:4700::5efe:10.0.0.1"), "- 10.0.0.1 - - - -");
        assert_eq!(
            readings("2606:4700::200:5efe:10.0.0.1"),
            "- 10.0.0.1 - - - -"
        );
        assert_eq!(
            readings("2002:808:808::5efe:10.0.0.1"),
            "8.8.8.8 10.0.0.1 - - - -"
        );
        for address in [
            "2606:4700::a00:1",
            "10.0.0.1",
            "64:ff9c::10.0.0.1",
            "2606::100:5efe:10.0.0.1",
        ] {
            assert_eq!(readings(address), "- - - - - -", "{address}");
        }
    }
}
