//! Checks sessions, and the intent and the outcome of each action (evidence protocol, section 2.5).
use std::collections::{BTreeMap, BTreeSet, HashSet};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::action::Receipt;
use super::findings::{Findings, Place, Rule};
use super::json::Node;
use super::record::{SESSION_GENESIS_PREFIX, session_genesis};
use super::rules;

/// `close_reason` of a clean stop.
pub const GRACEFUL: &str = "graceful_shutdown";

/// Facts about a session, for the report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionFacts {
    /// The nonce of the run.
    pub run_nonce: String,
    /// Recorder session that `session_open` names.
    pub recorder_session: String,
    /// Planned seconds between heartbeats.
    pub heartbeat_seconds: u64,
    /// Number of heartbeats.
    pub heartbeats: u64,
    /// SHA-256 of the bound posture capsule, or "" if none is bound.
    pub posture_capsule_sha256: String,
    /// Key that signed the capsule.
    pub posture_signer_key_id: String,
    /// The capsule's signature.
    pub containment_nonce: String,
    /// User id of the command that the session binds.
    pub contained_uid: String,
    /// Reason of the close, or "" if the session is open.
    pub close_reason: String,
}

/// The computed place of a receipt in its chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link<'c> {
    /// Hash of the previous receipt. `None` if that hash is unknown.
    pub(crate) head: Option<&'c str>,
    /// Sequence number of the previous receipt, also across a change of keys.
    pub(crate) last_seq: Option<u64>,
    /// Whether this is the first receipt of the evidence.
    pub(crate) first: bool,
    /// Number of receipts under this key so far, including this one.
    pub(crate) segment_count: u64,
    /// Recorder session of the entry.
    pub(crate) recorder_session: &'c str,
}

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) facts: Option<SessionFacts>,
    pub(crate) controls: u64,
    pub(crate) intents: u64,
    pub(crate) outcomes: u64,
    open_nonce: String,
    opened: BTreeSet<String>,
    without_nonce: Option<Place>,
    missing_open: bool,
    durability: [u64; 2],
    /// Actions with an intent and without an outcome, and the place of the intent.
    open: BTreeMap<String, Place>,
    /// Actions with an intent and an outcome.
    ended: HashSet<u128>,
}

impl Sessions {
    pub(crate) fn check(
        &mut self,
        receipt: &Receipt<'_, '_>,
        link: Link<'_>,
        place: &Place,
        findings: &mut Findings,
    ) {
        let nonce = receipt.text("run_nonce");
        if let Some(control) = receipt.record.member("session_control") {
            self.controls = self.controls.saturating_add(1);
            let mut report = Reporter { place, findings };
            self.control(receipt, control, link, &mut report);
            return;
        }
        if link.first
            && receipt
                .text("chain_prev_hash")
                .starts_with(SESSION_GENESIS_PREFIX)
        {
            findings.add(
                &rules::SESSION_OPEN,
                place.clone(),
                "a session_open after a g1: genesis",
                "a receipt that is not a session record",
            );
        }
        let closed = self
            .facts
            .as_ref()
            .is_some_and(|facts| !facts.close_reason.is_empty());
        if closed {
            findings.add(
                &rules::SESSION_AFTER,
                place.clone(),
                "nothing after the close",
                "a receipt",
            );
        } else if nonce.is_empty() {
            self.without_nonce.get_or_insert_with(|| place.clone());
        } else if !self.opened.contains(nonce) {
            if !self.missing_open {
                findings.add(
                    &rules::MISSING_OPEN,
                    place.clone(),
                    "a session_open first",
                    nonce,
                );
            }
            self.missing_open = true;
        } else if self
            .facts
            .as_ref()
            .is_some_and(|facts| facts.run_nonce != nonce)
        {
            findings.add(
                &rules::SESSION_FORM,
                place.clone(),
                "the nonce of the open run",
                nonce,
            );
        }
        self.phase(receipt, place, findings);
    }

    /// Notes that the start of the evidence could not be read, so that a missing `session_open` is not a finding.
    pub(crate) fn lose(&mut self) {
        self.missing_open = true;
    }

    /// Adds the findings that are only possible at the end.
    pub(crate) fn finish(&mut self, findings: &mut Findings) {
        if self.controls > 0
            && let Some(place) = self.without_nonce.take()
        {
            findings.add(&rules::SESSION_NONCE, place, "run_nonce", "none");
        }
        for (id, place) in &self.open {
            findings.add(&rules::OPEN_INTENT, place.clone(), "an outcome", id);
        }
    }

    /// Returns the number of intents without an outcome.
    pub(crate) fn open_intents(&self) -> u64 {
        u64::try_from(self.open.len()).unwrap_or(u64::MAX)
    }

    /// Checks the intent or the outcome of an action.
    fn phase(&mut self, receipt: &Receipt<'_, '_>, place: &Place, findings: &mut Findings) {
        let id = receipt.text("action_id");
        match receipt.text("decision_phase") {
            "intent" => {
                self.intents = self.intents.saturating_add(1);
                let is_open = self.open.insert(String::from(id), place.clone()).is_some();
                if is_open || self.ended.contains(&number(id)) {
                    findings.add(&rules::SECOND_OUTCOME, place.clone(), "one intent", id);
                }
            }
            "outcome" => {
                self.outcomes = self.outcomes.saturating_add(1);
                if self.open.remove(id).is_some() {
                    self.ended.insert(number(id));
                } else if self.ended.contains(&number(id)) {
                    findings.add(&rules::SECOND_OUTCOME, place.clone(), "one outcome", id);
                } else {
                    findings.add(&rules::NO_INTENT, place.clone(), "an earlier intent", id);
                }
            }
            _ => {}
        }
    }

    fn control(
        &mut self,
        receipt: &Receipt<'_, '_>,
        control: &Node<'_>,
        link: Link<'_>,
        report: &mut Reporter<'_>,
    ) {
        let payload = |name: &str| control.member(name).filter(|node| !node.is_null());
        let kind = control.member_text("kind");
        let (payload, other) = match (payload("open"), payload("heartbeat"), payload("close")) {
            (Some(open), None, None) => (open, kind != "session_open"),
            (None, Some(beat), None) => (beat, kind != "heartbeat" && kind != "session_heartbeat"),
            (None, None, Some(close)) => (close, kind != "session_close"),
            _ => {
                report.add(
                    &rules::SESSION_FORM,
                    "exactly one of open, heartbeat, and close",
                    kind,
                );
                return;
            }
        };
        if other {
            report.add(&rules::SESSION_FORM, "the kind of its payload", kind);
            return;
        }
        let nonce = receipt.text("run_nonce");
        if nonce.is_empty() || payload.member_text("run_nonce") != nonce {
            report.add(
                &rules::SESSION_FORM,
                "the record's run_nonce",
                payload.member_text("run_nonce"),
            );
        }
        match kind {
            "session_open" => self.open(receipt, payload, link, report),
            "session_close" => self.close(receipt, payload, link, report),
            _ => self.heartbeat(receipt, payload, link, report),
        }
    }

    fn open(
        &mut self,
        receipt: &Receipt<'_, '_>,
        open: &Node<'_>,
        link: Link<'_>,
        report: &mut Reporter<'_>,
    ) {
        let prev = receipt.text("chain_prev_hash");
        let genesis = open.member_text("genesis_hash");
        if link.first {
            let computed = computed_genesis(open);
            if !prev.starts_with(SESSION_GENESIS_PREFIX) {
                report.add(&rules::SESSION_OPEN, "a g1: genesis", prev);
            } else if prev != computed || genesis != computed {
                report.add(&rules::GENESIS_HASH, computed, genesis);
            }
        }
        if let Some([expected, found]) = misplaced(open, receipt.seq(), link) {
            report.add(&rules::SESSION_OPEN, expected, found);
        }
        let nonce = open.member_text("run_nonce");
        if !self.opened.insert(String::from(nonce)) {
            report.add(
                &rules::SESSION_OPEN,
                "a run that was not opened earlier",
                nonce,
            );
        }
        let recorder_session = open.member_text("recorder_session");
        if recorder_session != link.recorder_session {
            report.add(
                &rules::SESSION_NAME,
                link.recorder_session,
                recorder_session,
            );
        }
        let text = |name: &str| String::from(open.member_text(name));
        self.open_nonce = text("open_nonce");
        self.durability = [0, 0];
        self.facts = Some(SessionFacts {
            run_nonce: text("run_nonce"),
            recorder_session: text("recorder_session"),
            heartbeat_seconds: open.member_unsigned("heartbeat_seconds").unwrap_or(0),
            heartbeats: 0,
            posture_capsule_sha256: text("posture_capsule_sha256"),
            posture_signer_key_id: text("posture_signer_key_id"),
            containment_nonce: text("containment_nonce"),
            contained_uid: text("contained_uid"),
            close_reason: String::new(),
        });
    }

    fn heartbeat(
        &mut self,
        receipt: &Receipt<'_, '_>,
        beat: &Node<'_>,
        link: Link<'_>,
        report: &mut Reporter<'_>,
    ) {
        if !self.is_active(beat, report) {
            return;
        }
        if let Some(head) = link.head
            && beat.member_text("chain_head") != head
        {
            report.add(&rules::SESSION_BEAT, head, beat.member_text("chain_head"));
        }
        let previous = receipt.seq().checked_sub(1);
        if beat.member_unsigned("chain_seq_head") != previous {
            let expected = previous.map_or_else(|| String::from("none"), |seq| seq.to_string());
            report.add(
                &rules::SESSION_BEAT,
                format!("chain_seq_head: {expected}"),
                format!("chain_seq_head: {}", number_text(beat, "chain_seq_head")),
            );
        }
        let number = beat.member_unsigned("beat").unwrap_or(0);
        if let Some(facts) = &mut self.facts {
            let expected = facts.heartbeats.saturating_add(1);
            facts.heartbeats = number;
            if number != expected {
                report.add(
                    &rules::BEAT_GAP,
                    format!("beat {expected}"),
                    format!("beat {number}"),
                );
            }
        }
        self.counters(beat, report);
    }

    fn close(
        &mut self,
        receipt: &Receipt<'_, '_>,
        close: &Node<'_>,
        link: Link<'_>,
        report: &mut Reporter<'_>,
    ) {
        if !self.is_active(close, report) {
            return;
        }
        if let Some(head) = link.head
            && close.member_text("root_hash") != head
        {
            report.add(&rules::SESSION_CLOSE, head, close.member_text("root_hash"));
        }
        if close.member_unsigned("final_seq") != Some(receipt.seq()) {
            let found = close.member("final_seq").map_or("nothing", |node| node.raw);
            report.add(
                &rules::SESSION_CLOSE,
                format!("final_seq: {}", receipt.seq()),
                found,
            );
        }
        let count = close.member_unsigned("receipt_count").unwrap_or(0);
        if count != link.segment_count {
            report.add(
                &rules::SESSION_CLOSE,
                format!("{} receipts", link.segment_count),
                count.to_string(),
            );
        }
        self.counters(close, report);
        if let Some(facts) = &mut self.facts {
            facts.close_reason = match close.member_text("close_reason") {
                "" => String::from("none given"),
                reason => String::from(reason),
            };
        }
    }

    /// Whether a heartbeat or a close belongs to the open session.
    fn is_active(&self, payload: &Node<'_>, report: &mut Reporter<'_>) -> bool {
        let nonce = payload.member_text("run_nonce");
        match &self.facts {
            Some(facts) if !facts.close_reason.is_empty() => {
                report.add(&rules::SESSION_AFTER, "nothing after the close", nonce);
                false
            }
            Some(facts) if facts.run_nonce == nonce => {
                if payload.member_text("open_nonce") == self.open_nonce {
                    return true;
                }
                report.add(
                    &rules::SESSION_FORM,
                    self.open_nonce.as_str(),
                    payload.member_text("open_nonce"),
                );
                false
            }
            Some(_) | None => {
                report.add(&rules::SESSION_FORM, "an open session of this run", nonce);
                false
            }
        }
    }

    /// Checks that the durability counters do not go down.
    fn counters(&mut self, payload: &Node<'_>, report: &mut Reporter<'_>) {
        let now = ["fsync_errors_gated", "durability_blocks"]
            .map(|name| payload.member_unsigned(name).unwrap_or(0));
        if now
            .iter()
            .zip(&self.durability)
            .any(|(now, before)| now < before)
        {
            let words = |[gated, blocks]: [u64; 2]| {
                format!("{gated} fsync_errors_gated, {blocks} durability_blocks")
            };
            report.add(
                &rules::DURABILITY,
                format!("at least {}", words(self.durability)),
                words(now),
            );
        }
        self.durability = now;
    }
}

/// Returns the expected and the found text of the first member of an open that does not fit the place of the open in
/// the chain.
fn misplaced(open: &Node<'_>, seq: u64, link: Link<'_>) -> Option<[String; 2]> {
    let (seq, last_seq, head) = if link.first {
        (0, Some(0), Some(""))
    } else {
        (seq, link.last_seq, link.head)
    };
    // The genesis hash of the first open is compared with the computed one.
    let genesis = (!link.first).then_some("");
    let prior = open.member_unsigned("prior_chain_seq").unwrap_or(0);
    let number = |name: &str, wanted: u64, found: &str| differing(name, &wanted.to_string(), found);
    let text = |name: &str, wanted: Option<&str>| differing(name, wanted?, open.member_text(name));
    number("chain_open_seq", seq, &number_text(open, "chain_open_seq"))
        .or_else(|| number("prior_chain_seq", last_seq?, &prior.to_string()))
        .or_else(|| text("prior_chain_head", head))
        .or_else(|| text("genesis_hash", genesis))
}

/// Returns both values of a member with its name if they differ.
fn differing(name: &str, expected: &str, found: &str) -> Option<[String; 2]> {
    let shown = |value: &str| match value {
        "" => format!("{name}: none"),
        value => format!("{name}: {value}"),
    };
    (expected != found).then(|| [expected, found].map(shown))
}

/// Returns the number in a member as text, the value as it is written if it is not such a number, or `none`.
fn number_text(payload: &Node<'_>, name: &str) -> String {
    match (payload.member_unsigned(name), payload.member(name)) {
        (Some(number), _) => number.to_string(),
        (None, Some(node)) => String::from(node.raw),
        (None, None) => String::from("none"),
    }
}

/// Returns a number for the identifier of an action, because a number takes less memory than a text. For a UUID, the
/// number is the UUID itself. For any other text, the number is half of its SHA-256. A collision can only make evidence
/// invalid.
fn number(id: &str) -> u128 {
    let is_canonical = id.len() == 36 && !id.bytes().any(|byte| byte.is_ascii_uppercase());
    match Uuid::try_parse(id) {
        Ok(uuid) if is_canonical => uuid.as_u128(),
        Ok(_) | Err(_) => {
            let digest: [u8; 32] = Sha256::digest(id).into();
            u128::from_be_bytes(*digest.first_chunk().unwrap_or(&[0; 16]))
        }
    }
}

/// Adds findings for one receipt.
struct Reporter<'r> {
    place: &'r Place,
    findings: &'r mut Findings,
}

impl Reporter<'_> {
    fn add(&mut self, rule: &'static Rule, expected: impl Into<String>, found: impl Into<String>) {
        self.findings.add(rule, self.place.clone(), expected, found);
    }
}

/// Computes the genesis hash of an open. A negative heartbeat counts as zero.
pub fn computed_genesis(open: &Node<'_>) -> String {
    let text = |name: &str| open.member_text(name).as_bytes();
    session_genesis(&[
        text("run_nonce"),
        text("open_nonce"),
        text("recorder_session"),
        text("policy_hash"),
        text("signer_key_epoch"),
        &open
            .member_unsigned("heartbeat_seconds")
            .unwrap_or(0)
            .to_be_bytes(),
        text("genesis_anchor_head"),
        text("genesis_anchor_log"),
        text("posture_capsule_sha256"),
        text("containment_nonce"),
        text("contained_uid"),
    ])
}
