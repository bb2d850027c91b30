//! Notices about a caller's own Pipelock keys that weaken the enforcement of the allow-list, open
//! listeners, or send data out as Pipelock's user.
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::document::{self, MappingEntry, Node, Value};
use super::host::is_localhost;

/// A notice about one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// The key's full name.
    pub key: String,
    /// What the key does.
    pub effect: &'static str,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.key, self.effect)
    }
}

/// Sections that open a listener, read or write data, or send data out, unless they contain `enabled: false`.
const SECTIONS: [(&str, &str); 9] = [
    ("conductor", "lets another machine control Pipelock"),
    (
        "dashboard_snapshot",
        "writes data that other processes can read",
    ),
    ("emit", "sends data out as Pipelock's user"),
    ("file_sentry", "reads files as Pipelock's user"),
    (
        "learn",
        "writes observed traffic data that other processes can read",
    ),
    ("mcp_ws_listener", "opens an additional listener"),
    ("reverse_proxy", "opens an additional listener"),
    ("scan_api", "opens an additional listener"),
    ("sentry", "sends data out as Pipelock's user"),
];

/// Ranges that the caller's keys should not open: the host's own services and its cloud credentials.
const GUARDED: [&str; 3] = ["127.0.0.0/8", "::1/128", "169.254.0.0/16"];

/// Checks a document as the caller wrote it. The check includes the `mode` of the document.
pub(super) fn of(entries: &[MappingEntry]) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut note = |key: &str, effect| {
        notices.push(Notice {
            key: key.to_owned(),
            effect,
        });
    };
    let mode = get(entries, "mode").and_then(Node::as_text);
    if mode != Some("strict") {
        note("mode", "is not strict, so api_allowlist is not enforced");
    }
    if get(entries, "enforce").is_some_and(|node| node.value == Value::Bool(false)) {
        note("enforce", "is false, so nothing is denied");
    }
    if let Some(internal) = get(entries, "internal") {
        let listed = prefixes(internal);
        let covers = |guarded: &str| {
            prefix(guarded).is_some_and(|guarded| listed.iter().any(|one| one.covers(&guarded)))
        };
        if !GUARDED.iter().all(|guarded| covers(guarded)) {
            note(
                "internal",
                "removes loopback or the metadata address from the SSRF guard",
            );
        }
    }
    if let Some(allowed) = get(entries, "ssrf").and_then(|ssrf| get(ssrf.as_map()?, "ip_allowlist"))
    {
        let opened = prefixes(allowed);
        let opens = |guarded: &str| {
            prefix(guarded).is_some_and(|guarded| opened.iter().any(|one| one.meets(&guarded)))
        };
        if GUARDED.iter().any(|guarded| opens(guarded)) {
            note(
                "ssrf.ip_allowlist",
                "opens loopback or link-local addresses",
            );
        }
    }
    if get(entries, "trusted_domains").is_some_and(|node| !is_empty(node)) {
        note(
            "trusted_domains",
            "lifts the SSRF guard for these names, which may then resolve to private networks",
        );
    }
    if let Some(agents) = get(entries, "agents").and_then(Node::as_map)
        && agents.iter().any(|agent| {
            let profile = agent.value.as_map().unwrap_or_default();
            get(profile, "listeners").is_some_and(|node| !is_empty(node))
        })
    {
        note("agents.*.listeners", "opens additional listeners");
    }
    for (key, effect) in SECTIONS {
        if get(entries, key).is_some_and(is_on) {
            note(key, effect);
        }
    }
    if get(entries, "logging").is_some_and(|logging| {
        let fields = logging.as_map().unwrap_or_default();
        get(fields, "file").is_some_and(|node| !is_empty(node))
    }) {
        note("logging.file", "writes a log outside the run's directory");
    }
    if get(entries, "flight_recorder").is_some_and(|recorder| {
        let fields = recorder.as_map().unwrap_or_default();
        get(fields, "raw_escrow").is_some_and(|node| node.value == Value::Bool(true))
    }) {
        note(
            "flight_recorder.raw_escrow",
            "keeps the redacted data in encrypted form in the evidence directory",
        );
    }
    notices
}

fn get<'a>(entries: &'a [MappingEntry], key: &str) -> Option<&'a Node> {
    entries
        .iter()
        .find(|entry| entry.key == key)
        .map(|entry| &entry.value)
}

/// Second-level labels under which country registries sell names, as in `co.uk`.
const REGISTRIES: [&str; 12] = [
    "ac", "co", "com", "edu", "go", "gob", "gov", "ne", "net", "or", "org", "gouv",
];

/// Checks the hosts of a document for wildcards over everything that a registry sells, and for names of the command's
/// own loopback.
pub(super) fn hosts(entries: &[MappingEntry]) -> Vec<Notice> {
    let mut notices = Vec::new();
    for key in ["api_allowlist", "trusted_domains"] {
        let list = get(entries, key);
        let mut note = |is_meant: fn(&str) -> bool, effect| {
            if texts(list).any(is_meant) {
                notices.push(Notice {
                    key: key.to_owned(),
                    effect,
                });
            }
        };
        note(
            is_wide,
            "contains a wildcard over a whole top-level domain or registry, such as *.com, so an attacker can register a name that the wildcard covers",
        );
        note(
            |host| is_localhost(&host.to_ascii_lowercase()),
            "contains localhost, which is the command's own loopback and never leaves the boundary; --allow-unix opens a socket of the host",
        );
    }
    notices
}

/// Returns the notices about the hosts in a caller's policy. A text that is not a policy has no notices.
pub fn of_hosts(text: &str) -> Vec<Notice> {
    document::read(text).map_or_else(|_error| Vec::new(), |entries| hosts(&entries))
}

/// Whether an entry is a wildcard over a public suffix that can be recognized without a list of public suffixes.
fn is_wide(entry: &str) -> bool {
    let Some(parent) = entry.strip_prefix("*.") else {
        return false;
    };
    let parent = parent.trim_end_matches('.').to_ascii_lowercase();
    match parent.split_once('.') {
        None => !parent.is_empty(),
        Some((second, top)) => top.len() == 2 && REGISTRIES.contains(&second),
    }
}

/// Returns the texts in a list.
pub(super) fn texts(list: Option<&Node>) -> impl Iterator<Item = &str> {
    let items = list.and_then(Node::as_list).unwrap_or_default();
    items.iter().filter_map(Node::as_text)
}

fn is_empty(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Text(text) => text.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => false,
    }
}

/// Whether a section is present, not empty, and not switched off.
fn is_on(node: &Node) -> bool {
    let off = node
        .as_map()
        .and_then(|fields| get(fields, "enabled"))
        .is_some_and(|enabled| enabled.value == Value::Bool(false));
    !is_empty(node) && !off
}

/// A network prefix: addresses that start with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Prefix {
    is_v4: bool,
    bits: u128,
    length: u32,
}

impl Prefix {
    fn top(self, length: u32) -> u128 {
        self.bits.checked_shr(128 - length).unwrap_or(0)
    }

    /// Whether `other` lies entirely inside this prefix.
    fn covers(&self, other: &Self) -> bool {
        self.is_v4 == other.is_v4
            && self.length <= other.length
            && self.top(self.length) == other.top(self.length)
    }

    fn meets(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

fn prefixes(node: &Node) -> Vec<Prefix> {
    texts(Some(node)).filter_map(prefix).collect()
}

fn prefix(text: &str) -> Option<Prefix> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse().ok()?)),
        None => (text, None),
    };
    let (bits, width, is_v4) = match address.parse::<IpAddr>().ok()?.to_canonical() {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32, true),
        IpAddr::V6(v6) => (v6.to_bits(), 128, false),
    };
    let length = length.unwrap_or(width);
    (length <= width).then_some(Prefix {
        is_v4,
        bits,
        length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(yaml: &str) -> Vec<String> {
        let entries = document::read(yaml).unwrap();
        of(&entries).into_iter().map(|notice| notice.key).collect()
    }

    #[test]
    fn wide_wildcards_and_localhost_are_named() {
        for (entry, is_named) in [
            ("*.com", true),
            ("*.COM.", true),
            ("*.co.uk", true),
            ("*.internal", true),
            ("localhost", true),
            ("a.localhost", true),
            ("com", false),
            ("*.example.com", false),
            ("*.example.uk", false),
            ("*.co.example", false),
            ("*.", false),
        ] {
            let text = format!("api_allowlist: ['{entry}', '*.example.org']");
            assert_eq!(of_hosts(&text).len(), usize::from(is_named), "{entry}");
        }
        assert_eq!(of_hosts("trusted_domains: ['*.com']").len(), 1);
        assert!(of_hosts("[").is_empty() && of_hosts("api_allowlist: '*.com'").is_empty());
    }

    #[test]
    fn what_enforces_less_listens_or_sends_is_named() {
        let strict = |more: &str| keys(&format!("mode: strict\n{more}\n"));
        assert!(strict("api_allowlist: [a.test]").is_empty());
        for (yaml, key) in [
            ("enforce: false", "enforce"),
            ("internal: []", "internal"),
            ("internal: [10.0.0.0/8]", "internal"),
            ("ssrf: {ip_allowlist: [127.0.0.0/8]}", "ssrf.ip_allowlist"),
            ("ssrf: {ip_allowlist: [0.0.0.0/0]}", "ssrf.ip_allowlist"),
            (
                "ssrf: {ip_allowlist: ['169.254.169.254/32']}",
                "ssrf.ip_allowlist",
            ),
            ("ssrf: {ip_allowlist: ['::/0']}", "ssrf.ip_allowlist"),
            ("trusted_domains: [a.test]", "trusted_domains"),
            (
                "agents: {a: {listeners: ['0.0.0.0:1']}}",
                "agents.*.listeners",
            ),
            ("scan_api: {listen: '127.0.0.1:1'}", "scan_api"),
            ("reverse_proxy: {enabled: true}", "reverse_proxy"),
            ("emit: {syslog: {address: 'udp://a.test:514'}}", "emit"),
            ("logging: {file: /tmp/x}", "logging.file"),
        ] {
            assert_eq!(strict(yaml), [key], "{yaml}");
        }
        for yaml in [
            "internal: [127.0.0.0/8, '::1/128', 169.254.0.0/16]",
            "internal: [0.0.0.0/0, '::/0']",
            "ssrf: {ip_allowlist: [10.1.0.0/16, 'fd00::/8']}",
            "reverse_proxy: {enabled: false}",
            "trusted_domains: []",
            "agents: {a: {listeners: []}}",
        ] {
            assert!(strict(yaml).is_empty(), "{yaml}");
        }
        assert_eq!(keys("mode: balanced\n"), ["mode"]);
    }
}
