//! The result of a check: verdict, state of the end, counts, findings.
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::findings::Finding;
use super::json::Node;
use super::session::SessionFacts;

/// What the check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvidenceVerdict {
    /// Every rule holds and the signer is pinned.
    Valid,
    /// Every rule holds, but no key was pinned: the evidence agrees with itself only.
    SelfConsistentOnly,
    /// A rule is broken.
    Invalid,
    /// There was nothing to check.
    Error,
}

impl EvidenceVerdict {
    /// The word used in packets.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::SelfConsistentOnly => "self_consistent_only",
            Self::Invalid => "invalid",
            Self::Error => "error",
        }
    }
}

/// Whether the evidence shows that nothing was cut off its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// `session_close`, a matching `transcript_root`, and a signed checkpoint as the last entry.
    Proven,
    /// Something of it is missing, and what.
    Unproven(&'static str),
}

/// Receipts by verdict; the eight buckets of a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// `allow`.
    pub allow: u64,
    /// `block`.
    pub block: u64,
    /// `warn`.
    pub warn: u64,
    /// `ask`.
    pub ask: u64,
    /// `strip`.
    pub strip: u64,
    /// `forward`.
    pub forward: u64,
    /// `redirect`.
    pub redirect: u64,
    /// Any other text.
    pub other: u64,
}

impl Totals {
    /// Name and count of each bucket, in the order of a packet.
    pub fn buckets(&self) -> [(&'static str, u64); 8] {
        [
            ("allow", self.allow),
            ("block", self.block),
            ("warn", self.warn),
            ("ask", self.ask),
            ("strip", self.strip),
            ("forward", self.forward),
            ("redirect", self.redirect),
            ("other", self.other),
        ]
    }

    /// The counts in the order of a packet.
    pub fn counts(&self) -> [u64; 8] {
        self.buckets().map(|(_, count)| count)
    }

    /// Counts one receipt; verdicts are trimmed and compared in lower case (section 6.2).
    pub(crate) fn count(&mut self, verdict: &str) {
        let bucket = match verdict.trim().to_lowercase().as_str() {
            "allow" => &mut self.allow,
            "block" => &mut self.block,
            "warn" => &mut self.warn,
            "ask" => &mut self.ask,
            "strip" => &mut self.strip,
            "forward" => &mut self.forward,
            "redirect" => &mut self.redirect,
            _ => &mut self.other,
        };
        *bucket = bucket.saturating_add(1);
    }
}

/// Counts taken from the receipts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Receipts by verdict, session records included.
    pub totals: Totals,
    /// Receipts by transport, session records included.
    pub transports: BTreeMap<String, u64>,
    /// Blocked receipts by layer.
    pub layers: BTreeMap<String, u64>,
    /// Receipts by actor.
    pub actors: BTreeMap<String, u64>,
    /// Destination hosts.
    pub domains: BTreeSet<String>,
    /// Policy hashes.
    pub policy_hashes: BTreeSet<String>,
    /// Policy hashes of decisions, without those of session records.
    pub decision_policy_hashes: BTreeSet<String>,
    /// Actions: an intent and its outcome count once, session records not at all.
    pub actions: u64,
    /// Actions that were refused.
    pub blocked_actions: u64,
}

impl Counts {
    /// Counts one version 1 receipt.
    pub(crate) fn count(&mut self, record: &Node<'_>) {
        let verdict = record.member_text("verdict");
        self.totals.count(verdict);
        add(&mut self.transports, record.member_text("transport"));
        add(&mut self.actors, record.member_text("actor"));
        let blocked = verdict.trim().eq_ignore_ascii_case("block");
        if blocked {
            add(&mut self.layers, record.member_text("layer"));
        }
        let policy_hash = record.member_text("policy_hash");
        if !policy_hash.is_empty() {
            self.policy_hashes.insert(String::from(policy_hash));
        }
        if record.member("session_control").is_some() {
            return;
        }
        if !policy_hash.is_empty() {
            self.decision_policy_hashes
                .insert(String::from(policy_hash));
        }
        if let Some(host) = target_host(record.member_text("target")) {
            self.domains.insert(host);
        }
        if record.member_text("decision_phase") != "outcome" {
            self.actions = self.actions.saturating_add(1);
            if blocked {
                self.blocked_actions = self.blocked_actions.saturating_add(1);
            }
        }
    }
}

fn add(map: &mut BTreeMap<String, u64>, key: &str) {
    if !key.is_empty() {
        let count = map.entry(String::from(key)).or_default();
        *count = count.saturating_add(1);
    }
}

/// The host of a target URL, lower case, without port, user or brackets.
pub(crate) fn target_host(target: &str) -> Option<String> {
    let (_, rest) = target.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => host.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_lowercase())
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceReport {
    /// What it says.
    pub verdict: EvidenceVerdict,
    /// Whether the end is proven. Says nothing when the verdict is invalid or error.
    pub end: End,
    /// Most telling first.
    pub findings: Vec<Finding>,
    /// Further findings of the same rules that were not kept.
    pub suppressed: usize,
    /// Whether the files were read to their end. What is wrong with the first part of a file can be enough.
    pub is_whole: bool,
    /// Lines that are entries.
    pub entries: u64,
    /// Receipts of the main chain: version 1, or version 2 where there is no other.
    pub receipt_count: u64,
    /// Version 2 receipts.
    pub evidence_receipts: u64,
    /// Sequence number of the last of them.
    pub evidence_final_seq: Option<u64>,
    /// Hash of the last of them.
    pub evidence_root_hash: Option<String>,
    /// Signed checkpoints.
    pub checkpoints: u64,
    /// Sequence number of the last receipt.
    pub final_seq: Option<u64>,
    /// Hash of the last receipt.
    pub root_hash: Option<String>,
    /// Keys that signed, in order of appearance.
    pub signer_keys: Vec<String>,
    /// Recorder session of the entries.
    pub recorder_session: String,
    /// What the last `session_open` said.
    pub session: Option<SessionFacts>,
    /// Session records among the receipts: open, heartbeats, close.
    pub session_records: u64,
    /// Allowed actions announced before they ran.
    pub intents: u64,
    /// Their outcomes.
    pub outcomes: u64,
    /// Intents without outcome.
    pub open_intents: u64,
    /// Time of the first receipt.
    pub first_time: String,
    /// Time of the last receipt.
    pub last_time: String,
    /// Counts for the packet.
    pub counts: Counts,
}

impl EvidenceReport {
    /// Whether the rules hold, pinned or not.
    pub fn is_consistent(&self) -> bool {
        matches!(
            self.verdict,
            EvidenceVerdict::Valid | EvidenceVerdict::SelfConsistentOnly
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_taken_from_targets() {
        for (target, host) in [
            ("https://Name.test:443/", Some("name.test")),
            ("http://user:pass@name.test/a@b", Some("name.test")),
            ("http://[2001:db8::1]:80/x", Some("2001:db8::1")),
            ("ws://name.test?x", Some("name.test")),
            ("[redacted-target]", None),
            ("http://", None),
        ] {
            assert_eq!(target_host(target).as_deref(), host, "{target}");
        }
    }

    #[test]
    fn verdicts_are_counted_trimmed_and_in_lower_case() {
        let mut totals = Totals::default();
        for verdict in ["allow", " Block ", "ASK", "maybe"] {
            totals.count(verdict);
        }
        assert_eq!(
            totals,
            Totals {
                allow: 1,
                block: 1,
                ask: 1,
                other: 1,
                ..Totals::default()
            }
        );
    }
}
