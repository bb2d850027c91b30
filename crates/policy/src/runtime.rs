//! Builds the runtime policy: the caller's document with the keys that the run sets itself.
//!
//! The result is byte for byte the packet's `policy.yaml`, whose SHA-256 is the policy hash in every
//! receipt of the built-in mediator.
use sha2::{Digest, Sha256};

use super::advice;
use super::document::{self, MappingEntry, Node, Value};
use super::error::PolicyError;
use super::model::Policy;
use super::parse;

/// Values that the run sets, whatever the caller's document contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedKeys {
    /// `fetch_proxy.listen`, as `127.0.0.1:PORT`.
    pub listen: String,
    /// `default_agent_identity`, the actor in receipts.
    pub agent_identity: String,
    /// `flight_recorder.dir`, a path under `/run/egress/RUN`.
    pub evidence_dir: String,
    /// `flight_recorder.signing_key_path`, a path under `/run/egress/RUN`.
    pub signing_key_path: String,
}

impl OwnedKeys {
    /// Returns placeholders with which a policy can be checked before a run exists.
    pub fn for_check(agent_identity: &str) -> Self {
        Self {
            listen: String::from("127.0.0.1:1"),
            agent_identity: agent_identity.to_owned(),
            evidence_dir: String::from("/run/egress/x/evidence"),
            signing_key_path: String::from("/run/egress/x/signing.key"),
        }
    }
}

/// The policy that the built-in mediator receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimePolicy {
    /// The document, which is byte for byte the packet's `policy.yaml`.
    pub yaml: String,
    /// The parsed form of the document.
    pub policy: Policy,
    /// Keys for which the caller's value was replaced.
    pub overridden: Vec<String>,
}

/// Builds the runtime policy of the built-in mediator.
///
/// Without a document from the caller, the policy is strict and its allow-list is empty. Without an
/// allow-list, no destination is allowed.
///
/// # Errors
/// Returns [`PolicyError`] if the built-in mediator cannot implement the caller's document.
pub fn build(caller_yaml: Option<&str>, owned: &OwnedKeys) -> Result<RuntimePolicy, PolicyError> {
    let mut entries = match caller_yaml {
        Some(text) => document::read(text)?,
        None => vec![MappingEntry::of(
            "api_allowlist",
            Node::of(Value::List(Vec::new())),
        )],
    };
    // The caller's document is checked before keys are replaced, so that an error names the line in
    // that document.
    check_sections(&entries)?;
    let caller = without_owned(&entries);
    parse::from_entries(&caller)?;
    set_default(&mut entries, "mode", Node::text("strict"));
    set_default(&mut entries, "version", Node::of(Value::Int(1)));
    let overridden = force(&mut entries, owned);
    let yaml = document::write(&entries)?;
    let policy = parse::parse(&yaml)?;
    Ok(RuntimePolicy {
        yaml,
        policy,
        overridden,
    })
}

/// Returns the policy hash of a runtime document: lowercase hex SHA-256 of its bytes.
pub fn policy_hash(yaml: &str) -> String {
    hex::encode(Sha256::digest(yaml.as_bytes()))
}

/// Returns the forced keys, each as section (empty at the top), key, and value.
pub(super) fn owned_values(owned: &OwnedKeys) -> [(&'static str, &'static str, Node); 10] {
    let yes = || Node::of(Value::Bool(true));
    [
        (
            "",
            "default_agent_identity",
            Node::text(&owned.agent_identity),
        ),
        ("", "bind_default_agent_identity", yes()),
        ("fetch_proxy", "listen", Node::text(&owned.listen)),
        ("forward_proxy", "enabled", yes()),
        ("websocket_proxy", "enabled", yes()),
        ("flight_recorder", "enabled", yes()),
        ("flight_recorder", "dir", Node::text(&owned.evidence_dir)),
        ("flight_recorder", "redact", yes()),
        ("flight_recorder", "sign_checkpoints", yes()),
        (
            "flight_recorder",
            "signing_key_path",
            Node::text(&owned.signing_key_path),
        ),
    ]
}

const OWNED_SECTIONS: [&str; 4] = [
    "fetch_proxy",
    "flight_recorder",
    "forward_proxy",
    "websocket_proxy",
];

fn is_owned(section: &str, key: &str) -> bool {
    match section {
        "" => matches!(
            key,
            "default_agent_identity" | "bind_default_agent_identity"
        ),
        "fetch_proxy" => key == "listen",
        "forward_proxy" | "websocket_proxy" => key == "enabled",
        "flight_recorder" => matches!(
            key,
            "enabled" | "dir" | "redact" | "sign_checkpoints" | "signing_key_path"
        ),
        _ => false,
    }
}

fn check_sections(entries: &[MappingEntry]) -> Result<(), PolicyError> {
    for entry in entries {
        let is_map = matches!(entry.value.value, Value::Map(_));
        if OWNED_SECTIONS.contains(&entry.key.as_str()) && !is_map {
            let value = &entry.value.value;
            return Err(advice::not_a_section(entry.line, &entry.key, value));
        }
    }
    Ok(())
}

/// Returns the caller's document without the keys that will be replaced, because their values are
/// ignored and need no check.
fn without_owned(entries: &[MappingEntry]) -> Vec<MappingEntry> {
    let mut kept: Vec<MappingEntry> = entries
        .iter()
        .filter(|entry| !is_owned("", &entry.key))
        .cloned()
        .collect();
    for entry in &mut kept {
        if let Value::Map(inner) = &mut entry.value.value {
            let section = entry.key.as_str();
            inner.retain(|field| !is_owned(section, &field.key));
        }
    }
    kept
}

fn force(entries: &mut Vec<MappingEntry>, owned: &OwnedKeys) -> Vec<String> {
    let mut overridden = Vec::new();
    for (section, key, value) in owned_values(owned) {
        let target = if section.is_empty() {
            Some(&mut *entries)
        } else {
            section_mut(entries, section)
        };
        let Some(fields) = target else { continue };
        if replace(fields, key, value) {
            overridden.push(if section.is_empty() {
                key.to_owned()
            } else {
                format!("{section}.{key}")
            });
        }
    }
    overridden
}

/// Returns the mapping of a section, and creates the section if it is absent. `check_sections` has
/// already rejected sections that are not mappings.
fn section_mut<'a>(
    entries: &'a mut Vec<MappingEntry>,
    section: &str,
) -> Option<&'a mut Vec<MappingEntry>> {
    set_default(entries, section, Node::of(Value::Map(Vec::new())));
    let entry = entries.iter_mut().find(|entry| entry.key == section)?;
    match &mut entry.value.value {
        Value::Map(fields) => Some(fields),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::List(_) => None,
    }
}

/// Sets a key. Returns whether the call changed an existing value.
pub(super) fn replace(fields: &mut Vec<MappingEntry>, key: &str, value: Node) -> bool {
    if let Some(entry) = fields.iter_mut().find(|entry| entry.key == key) {
        let changed = entry.value != value;
        entry.value = value;
        return changed;
    }
    fields.push(MappingEntry::of(key, value));
    false
}

pub(super) fn set_default(entries: &mut Vec<MappingEntry>, key: &str, value: Node) {
    if !entries.iter().any(|entry| entry.key == key) {
        entries.push(MappingEntry::of(key, value));
    }
}
