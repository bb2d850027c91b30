//! Finds which non-public addresses a caller's policy opens, for the kernel programs on the
//! mediator's cgroup. Both mediators use the same two keys. A mediator rejects invalid values
//! itself before it starts.
use super::document::{self, MappingEntry, Node};
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
    /// Reads the caller's document. A part that cannot be parsed opens nothing.
    pub fn by(caller_yaml: Option<&str>) -> Self {
        let entries = caller_yaml.map(document::read).and_then(Result::ok);
        let entries = entries.unwrap_or_default();
        let ssrf = get(&entries, "ssrf").and_then(Node::as_map);
        let listed = ssrf.and_then(|ssrf| get(ssrf, "ip_allowlist"));
        Self {
            listed: texts(listed).filter_map(Cidr::parse).collect(),
            private: texts(get(&entries, "trusted_domains")).next().is_some(),
        }
    }
}

fn get<'a>(entries: &'a [MappingEntry], key: &str) -> Option<&'a Node> {
    let entry = entries.iter().find(|entry| entry.key == key);
    entry.map(|entry| &entry.value)
}

#[cfg(test)]
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
}
