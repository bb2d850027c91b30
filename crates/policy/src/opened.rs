//! Finds which non-public addresses a caller's policy opens, for the kernel programs on the
//! mediator's cgroup. Both mediators use the same two keys. A mediator rejects invalid values
//! itself before it starts.
use std::net::IpAddr;

use egress_common::abi::halves;
use egress_common::decide::{self, Known};
use egress_common::place;
use egress_common::verdict::Reason;

#[cfg(feature = "yaml")]
use super::document::{self, MappingEntry, Node};
#[cfg(feature = "yaml")]
use super::notices::texts;
use super::ssrf::Cidr;

/// Non-public addresses that a policy opens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// The ranges in `ssrf.ip_allowlist`.
    pub listed: Vec<Cidr>,
    /// Whether `trusted_domains` lets some names resolve to private networks. The kernel programs
    /// receive only addresses, not names.
    pub private: bool,
}

impl Opened {
    /// Reads the caller's document. A part that cannot be parsed does not open an address.
    #[cfg(feature = "yaml")]
    pub fn by(caller_yaml: Option<&str>) -> Self {
        let entries = caller_yaml.map(document::read).and_then(Result::ok);
        Self::of(&entries.unwrap_or_default())
    }

    /// Reads the entries of a document. A part that cannot be parsed does not open an address.
    #[cfg(feature = "yaml")]
    pub(super) fn of(entries: &[MappingEntry]) -> Self {
        let ssrf = get(entries, "ssrf").and_then(Node::as_map);
        let listed = ssrf.and_then(|ssrf| get(ssrf, "ip_allowlist"));
        Self {
            listed: texts(listed).filter_map(Cidr::parse).collect(),
            private: texts(get(entries, "trusted_domains")).next().is_some(),
        }
    }

    /// Whether the kernel programs deny a connection of the mediator to `address` on every machine. On a particular
    /// machine, they also deny that machine's own addresses.
    pub fn denies(&self, address: IpAddr, opens_port: bool) -> bool {
        let whole = halves(match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        });
        let address = address.to_canonical();
        let known = Known {
            is_listed: self.listed.iter().any(|range| range.contains(address)),
            opens_private: self.private,
            is_own: false,
            opens_port,
        };
        decide::reach(place::of(whole), known) != Reason::None
    }
}

#[cfg(feature = "yaml")]
fn get<'a>(entries: &'a [MappingEntry], key: &str) -> Option<&'a Node> {
    let entry = entries.iter().find(|entry| entry.key == key);
    entry.map(|entry| &entry.value)
}

#[cfg(all(test, feature = "yaml"))]
mod tests {
    use super::*;

    #[test]
    fn two_keys_open_and_what_cannot_be_read_opens_nothing() {
        let listed = |ranges: &[&str]| {
            ranges
                .iter()
                .filter_map(|range| Cidr::parse(range))
                .collect()
        };
        for (yaml, ranges, private) in [
            ("mode: strict\n", [].as_slice(), false),
            (
                "ssrf: {ip_allowlist: [10.1.0.0/16, '::1/128']}\n",
                &["10.1.0.0/16", "::1/128"],
                false,
            ),
            (
                "ssrf: {ip_allowlist: [10.0.0.1, nonsense, 7]}\n",
                &[],
                false,
            ),
            ("trusted_domains: [a.test]\n", &[], true),
            ("trusted_domains: []\nssrf: {}\n", &[], false),
            ("ssrf: [10.0.0.0/8]\ntrusted_domains: a.test\n", &[], false),
            ("- 10.0.0.0/8\n", &[], false),
        ] {
            let expected = Opened {
                listed: listed(ranges),
                private,
            };
            assert_eq!(Opened::by(Some(yaml)), expected, "{yaml}");
        }
        assert_eq!(Opened::by(None), Opened::default());
    }

    #[test]
    fn mediator_is_denied_what_the_kernel_programs_deny_on_every_machine() {
        let nothing = Opened::default();
        let yaml = "trusted_domains: [a.test]\nssrf: {ip_allowlist: ['127.0.0.0/8', '::/0']}\n";
        let opened = Opened::by(Some(yaml));
        for (address, port, alone, with_policy) in [
            ("192.0.2.1", true, false, false),
            ("192.0.2.1", false, true, true),
            ("127.0.0.1", false, true, false),
            ("::ffff:127.0.0.1", true, true, false),
            ("10.0.0.1", true, true, false),
            ("169.254.169.254", true, true, true),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(nothing.denies(address, port), alone, "{address}");
            assert_eq!(opened.denies(address, port), with_policy, "{address}");
        }
    }
}
