//! The result of a check: verdict, state of the end, counts, and findings.
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::findings::Finding;
use super::form::EntryForms;
use super::json::Node;
use super::session::SessionFacts;

/// The verdict of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvidenceVerdict {
    /// No rule of severity `error` is violated, and the signer is pinned.
    Valid,
    /// No rule of severity `error` is violated, but no key was pinned, so the evidence is only self-consistent.
    SelfConsistentOnly,
    /// A rule of severity `error` is violated.
    Invalid,
    /// There was nothing to check.
    Error,
}

impl EvidenceVerdict {
    /// Returns the word that packets use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::SelfConsistentOnly => "self_consistent_only",
            Self::Invalid => "invalid",
            Self::Error => "error",
        }
    }
}

/// Whether the evidence shows that its end is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The evidence has `session_close`, a matching `transcript_root`, and a signed checkpoint as
    /// the last entry.
    Proven,
    /// A part of the end is missing. The text describes that part.
    Unproven(&'static str),
}

/// Receipts by verdict, in the eight buckets of a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// Any other verdict.
    pub other: u64,
}

impl Totals {
    /// Returns the name and the count of each bucket, in the order of a packet.
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

    /// Returns the counts, in the order of a packet.
    pub fn counts(&self) -> [u64; 8] {
        self.buckets().map(|(_, count)| count)
    }

    /// Counts one receipt. Verdicts are trimmed and compared in lower case (section 6.2).
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

/// Counts of the receipts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Receipts by verdict, session records included.
    pub totals: Totals,
    /// Receipts by transport, session records included.
    pub transports: BTreeMap<String, u64>,
    /// Receipts of denials by layer.
    pub layers: BTreeMap<String, u64>,
    /// Receipts by actor.
    pub actors: BTreeMap<String, u64>,
    /// Hosts of the destinations.
    pub domains: BTreeSet<String>,
    /// Policy hashes of all receipts.
    pub policy_hashes: BTreeSet<String>,
    /// Policy hashes of decisions. Session records are not decisions.
    pub decision_policy_hashes: BTreeSet<String>,
    /// Number of actions. An intent and its outcome count once, and session records do not count.
    pub actions: u64,
    /// Number of denied actions.
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

/// Returns the host of a target URL in lower case, without port, user, or brackets.
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
    /// Verdict of the check.
    pub verdict: EvidenceVerdict,
    /// Whether the end is proven. The value has no meaning if the verdict is `Invalid` or `Error`.
    pub end: End,
    /// Findings, causes before their consequences.
    pub findings: Vec<Finding>,
    /// Number of findings that were not kept.
    pub suppressed: usize,
    /// Whether the files were read to their end. A check stops early if the findings are enough to reject the evidence.
    pub is_whole: bool,
    /// Number of lines that are entries.
    pub entries: u64,
    /// Number of receipts of the main chain. The main chain is version 1 if there are receipts of
    /// version 1.
    pub receipt_count: u64,
    /// Number of version 2 receipts.
    pub evidence_receipts: u64,
    /// Sequence number of the last version 2 receipt.
    pub evidence_final_seq: Option<u64>,
    /// Hash of the last version 2 receipt.
    pub evidence_root_hash: Option<String>,
    /// Number of signed checkpoints.
    pub checkpoints: u64,
    /// Sequence number of the last receipt.
    pub final_seq: Option<u64>,
    /// Hash of the last receipt.
    pub root_hash: Option<String>,
    /// Keys that signed, in the order of their first use.
    pub signer_keys: Vec<String>,
    /// Recorder session of the entries.
    pub recorder_session: String,
    /// Facts about the session of the last `session_open`.
    pub session: Option<SessionFacts>,
    /// Number of session records among the receipts: open, heartbeats, and close.
    pub session_records: u64,
    /// Number of intents.
    pub intents: u64,
    /// Number of outcomes.
    pub outcomes: u64,
    /// Number of intents without an outcome.
    pub open_intents: u64,
    /// Time of the first receipt.
    pub first_time: String,
    /// Time of the last receipt.
    pub last_time: String,
    /// Earliest and latest time of an entry, and of the span that a transcript root states.
    pub written: Option<(OffsetDateTime, OffsetDateTime)>,
    /// Numbers of entries whose form is not that of a writer.
    pub forms: EntryForms,
    /// Counts for the packet.
    pub counts: Counts,
}

impl EvidenceReport {
    /// Whether no rule of severity `error` is violated, with or without a pinned key.
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
