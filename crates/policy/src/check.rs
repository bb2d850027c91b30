//! `egress policy check`: finds what a policy allows.
use serde::Serialize;

use super::document::{self, MappingEntry, Node, Value};
use super::error::PolicyError;
use super::notices::{self, Notice};
use super::opened::Opened;
use super::patterns::Patterns;
use super::runtime::{self, OwnedKeys};
use super::{AllowList, natural};

/// What a policy allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// `mode`.
    pub mode: String,
    /// Whether every host that is not in `hosts` is denied.
    pub is_enforced: bool,
    /// The hosts that the command can reach, in natural order.
    pub hosts: Vec<String>,
    /// Ranges of `ssrf.ip_allowlist`.
    pub ip_allowlist: Vec<String>,
    /// Host names that may resolve to addresses of private networks.
    pub trusted_domains: Vec<String>,
    /// Settings that weaken the policy or are probably unintended.
    pub warnings: Vec<Notice>,
}

/// Checks a policy for the built-in mediator, as a run does before it starts.
///
/// # Errors
/// Returns [`PolicyError`] if the built-in mediator cannot use the policy.
pub fn builtin(text: &str) -> Result<Checked, PolicyError> {
    let policy = runtime::build(Some(text), &OwnedKeys::for_check("unused"))?.policy;
    let mut entries = document::read(text)?;
    runtime::set_default(&mut entries, "mode", Node::text("strict"));
    let mut checked = of(&entries, text);
    checked.hosts = policy.allow.entries();
    checked.trusted_domains = policy.guard.trusted_domains.entries();
    Ok(checked)
}

/// Checks the parts of a policy for Pipelock that egress itself reads. Pipelock checks the rest when a run starts.
///
/// # Errors
/// Returns [`PolicyError`] if the text is not one YAML document with a mapping at the top, or if an expression of
/// `dlp.patterns` cannot be compiled.
pub fn pipelock(text: &str) -> Result<Checked, PolicyError> {
    let mut entries = document::read(text)?;
    Patterns::of(&entries)?;
    runtime::set_default(&mut entries, "mode", Node::text("balanced"));
    Ok(of(&entries, text))
}

fn of(entries: &[MappingEntry], text: &str) -> Checked {
    let value = |key: &str| {
        let entry = entries.iter().find(|entry| entry.key == key);
        entry.map(|entry| &entry.value)
    };
    let mode = value("mode").and_then(Node::as_text).unwrap_or_default();
    let is_on = value("enforce").is_none_or(|node| node.value != Value::Bool(false));
    let ranges = Opened::by(Some(text)).listed.into_iter();
    let mut warnings = notices::of(entries);
    warnings.extend(notices::hosts(entries));
    Checked {
        mode: mode.to_owned(),
        is_enforced: mode == "strict" && is_on,
        hosts: listed(value("api_allowlist")),
        ip_allowlist: ranges
            .map(|range| {
                let (base, bits) = range.prefix();
                format!("{base}/{bits}")
            })
            .collect(),
        trusted_domains: listed(value("trusted_domains")),
        warnings,
    }
}

/// Returns the hosts of a list: entries that this crate can parse, in this crate's spelling, and all other entries
/// unchanged, because only Pipelock interprets those.
fn listed(node: Option<&Node>) -> Vec<String> {
    let mut list = AllowList::default();
    let mut hosts: Vec<String> = notices::texts(node)
        .filter(|text| list.insert(text).is_err())
        .map(str::to_owned)
        .collect();
    hosts.extend(list.entries());
    hosts.sort_by(|a, b| natural::compare(a, b));
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mediator_has_its_own_reading() {
        let text = "mode: strict\napi_allowlist: [h10.test, H2.test, '*.test.', 10.0.0.1]\n\
                    ssrf: {ip_allowlist: [10.0.0.0/8]}\ntrusted_domains: [a.test]\n";
        let checked = builtin(text).unwrap();
        assert_eq!(checked.hosts, ["*.test", "10.0.0.1", "h2.test", "h10.test"]);
        assert_eq!(checked.ip_allowlist, ["10.0.0.0/8"]);
        assert_eq!(checked.trusted_domains, ["a.test"]);
        assert!(checked.is_enforced);
        let keys: Vec<&str> = checked
            .warnings
            .iter()
            .map(|one| one.key.as_str())
            .collect();
        assert_eq!(keys, ["trusted_domains", "api_allowlist"]);
        assert_eq!(pipelock(text).unwrap(), checked);
    }

    #[test]
    fn only_pipelock_has_other_modes_and_keys() {
        let text = "mode: balanced\ndlp: {scan_env: true}\napi_allowlist: ['a*.test']\n";
        assert!(matches!(builtin(text), Err(PolicyError::Invalid { .. })));
        let checked = pipelock(text).unwrap();
        assert_eq!(
            (checked.mode.as_str(), checked.is_enforced),
            ("balanced", false)
        );
        assert_eq!(checked.hosts, ["a*.test"]);
        assert!(
            !pipelock("enforce: false\nmode: strict\n")
                .unwrap()
                .is_enforced
        );
        assert_eq!(pipelock("{}").unwrap().mode, "balanced");
        assert_eq!(builtin("{}").unwrap().mode, "strict");
        assert!(pipelock("a: [").is_err());
    }
}
