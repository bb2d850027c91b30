//! Reads one version 2 receipt (evidence protocol, section 3). Only the kind `proxy_decision` is supported, because a
//! mediator does not write the other kinds.
use sha2::{Digest, Sha256};

use super::action::{is_hex, signature_bytes};
use super::entry::Problem;
use super::jcs;
use super::json::{Node, Value};
use super::rules;
use super::time_text;

/// The members of `canonicalization` and their fixed values.
const CANONICALIZATION: [(&str, &str); 7] = [
    ("jcs_profile", "pipelock-jcs-rfc8785-nfc-v1"),
    ("jcs_version", "rfc8785"),
    ("hash_alg", "sha256"),
    ("sig_alg", "ed25519"),
    ("redaction_ruleset_id", "pipelock-transform-v1"),
    ("redaction_ruleset_version", "1"),
    (
        "redaction_ruleset_hash",
        "sha256:541896788b42651a202448894583a847db9d1aa081c33a7e1f0512303d72527e",
    ),
];
const NAMES: [&str; 19] = [
    "record_type",
    "receipt_version",
    "payload_kind",
    "canonicalization",
    "crit",
    "event_id",
    "timestamp",
    "principal",
    "actor",
    "delegation_chain",
    "signature",
    "chain_seq",
    "chain_prev_hash",
    "active_manifest_hash",
    "contract_hash",
    "policy_hash",
    "selector_id",
    "contract_generation",
    "payload",
];
const PAYLOAD_NAMES: [&str; 8] = [
    "action_type",
    "target",
    "verdict",
    "live_verdict",
    "transport",
    "policy_sources",
    "winning_source",
    "rule_id",
];

/// A version 2 receipt that matches the schema.
#[derive(Debug)]
pub(crate) struct EvidenceReceipt<'n> {
    pub(crate) seq: u64,
    pub(crate) prev_hash: &'n str,
    pub(crate) signer_key: &'n str,
    pub(crate) signature: [u8; 64],
    pub(crate) preimage: String,
    pub(crate) hash: String,
}

impl<'n> EvidenceReceipt<'n> {
    pub(crate) fn read(node: &'n Node<'_>) -> Result<Self, Problem> {
        only(node, &NAMES, "receipt")?;
        exactly(node, "record_type", "evidence_receipt_v2")?;
        if node.member("receipt_version").map(|node| node.raw) != Some("2") {
            return Err(form(node, "receipt_version", "2"));
        }
        exactly(node, "payload_kind", "proxy_decision")?;
        let canonicalization = object(node, "canonicalization")?;
        only(
            canonicalization,
            &CANONICALIZATION.map(|(name, _)| name),
            "canonicalization",
        )?;
        for (name, value) in CANONICALIZATION {
            exactly(canonicalization, name, value)?;
        }
        check_crit(node)?;
        for name in ["event_id", "chain_prev_hash"] {
            if node.member_text(name).is_empty() {
                return Err(form(node, name, "a non-empty string"));
            }
        }
        for name in [
            "principal",
            "actor",
            "active_manifest_hash",
            "contract_hash",
            "selector_id",
        ] {
            if node
                .member(name)
                .is_some_and(|member| member.text().is_none())
            {
                return Err(form(node, name, "a string"));
            }
        }
        if !time_text::is_rfc3339(node.member_text("timestamp")) {
            return Err(form(node, "timestamp", "RFC 3339"));
        }
        let seq = node
            .member_unsigned("chain_seq")
            .ok_or_else(|| form(node, "chain_seq", "an unsigned integer"))?;
        let policy_hash = node.member_text("policy_hash");
        if !policy_hash
            .strip_prefix("sha256:")
            .is_some_and(|digits| is_hex(digits, 64))
        {
            return Err(form(node, "policy_hash", "sha256: and 64 hex digits"));
        }
        check_payload(node)?;
        let signature = object(node, "signature")?;
        only(
            signature,
            &["signer_key_id", "key_purpose", "algorithm", "signature"],
            "signature",
        )?;
        exactly(signature, "key_purpose", "receipt-signing")?;
        exactly(signature, "algorithm", "ed25519")?;
        let signer_key = signature.member_text("signer_key_id");
        if !is_hex(signer_key, 64) {
            return Err(Problem::new(
                &rules::SIGNATURE_FORM,
                "signer_key_id: 64 lowercase hex digits",
                signer_key,
            ));
        }
        let bytes = signature_bytes(signature.member_text("signature"))?;
        let mut preimage = String::with_capacity(node.raw.len());
        let mut text = String::with_capacity(node.raw.len());
        jcs::push_preimage(&mut preimage, node)
            .and_then(|()| jcs::push(&mut text, node))
            .map_err(|error| {
                let problem = match error {
                    jcs::JcsError::Collision => "two names that are equal in NFC",
                    jcs::JcsError::Fraction => "a number that is not an integer",
                };
                Problem::new(&rules::V2_FORM, "a canonical form", problem)
            })?;
        Ok(Self {
            seq,
            prev_hash: node.member_text("chain_prev_hash"),
            signer_key,
            signature: bytes,
            preimage,
            hash: hex::encode(Sha256::digest(text.as_bytes())),
        })
    }
}

/// Checks `crit`, the list of members that a reader must support. Only `canonicalization` is
/// supported.
fn check_crit(node: &Node<'_>) -> Result<(), Problem> {
    let items = node
        .member("crit")
        .and_then(Node::items)
        .unwrap_or_default();
    match items {
        [only] if only.text() == Some("canonicalization") => Ok(()),
        _ => Err(form(node, "crit", "[\"canonicalization\"]")),
    }
}

fn check_payload(node: &Node<'_>) -> Result<(), Problem> {
    let payload = object(node, "payload")?;
    only(payload, &PAYLOAD_NAMES, "payload")?;
    for name in [
        "action_type",
        "target",
        "verdict",
        "transport",
        "winning_source",
    ] {
        if payload.member_text(name).is_empty() {
            return Err(form(payload, name, "a non-empty string"));
        }
    }
    for name in ["live_verdict", "rule_id"] {
        if payload
            .member(name)
            .is_some_and(|member| member.text().is_none())
        {
            return Err(form(payload, name, "a string"));
        }
    }
    let sources = payload
        .member("policy_sources")
        .and_then(Node::items)
        .unwrap_or_default();
    if sources.is_empty()
        || sources
            .iter()
            .any(|source| source.text().is_none_or(str::is_empty))
    {
        return Err(form(
            payload,
            "policy_sources",
            "a list of non-empty strings",
        ));
    }
    Ok(())
}

fn object<'n, 'a>(node: &'n Node<'a>, name: &str) -> Result<&'n Node<'a>, Problem> {
    node.member(name)
        .filter(|member| matches!(member.value, Value::Object(_)))
        .ok_or_else(|| form(node, name, "an object"))
}

fn only(node: &Node<'_>, names: &[&str], of: &str) -> Result<(), Problem> {
    let members = node
        .members()
        .ok_or_else(|| Problem::new(&rules::V2_FORM, format!("{of}: an object"), node.raw))?;
    match members
        .iter()
        .find(|(name, _)| !names.contains(&name.as_ref()))
    {
        Some((name, _)) => Err(Problem::new(
            &rules::V2_FORM,
            format!("{of}: no other member"),
            name.as_ref(),
        )),
        None => Ok(()),
    }
}

fn exactly(node: &Node<'_>, name: &str, value: &str) -> Result<(), Problem> {
    match node.member_text(name) {
        found if found == value => Ok(()),
        found => Err(Problem::new(
            &rules::V2_FORM,
            format!("{name}: {value}"),
            found,
        )),
    }
}

/// Returns a [`Problem`] that shows the value of the member `name`.
fn form(node: &Node<'_>, name: &str, expected: &str) -> Problem {
    let found = node.member(name).map_or("nothing", |member| member.raw);
    Problem::new(&rules::V2_FORM, format!("{name}: {expected}"), found)
}
