//! The state of one check, and the change that each entry makes to it.
use super::super::action::Receipt;
use super::super::chain::{ActionChain, Context, EvidenceChain, Trust};
use super::super::end::Tail;
use super::super::entry::{EntryKind, Problem, RecorderEntry};
use super::super::evidence::EvidenceReceipt;
use super::super::findings::Place;
use super::super::form::FormCheck;
use super::super::input::{Seen, Visit};
use super::super::json::Node;
use super::super::outer::Outer;
use super::super::report::{Counts, EvidenceReport, EvidenceVerdict};
use super::super::rules;
use super::super::session::GRACEFUL;
use super::super::signatures::{Job, Message};
use std::sync::Arc;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(super) struct Checker<'t> {
    pub(super) context: Context<'t>,
    pub(super) outer: Outer,
    pub(super) actions: ActionChain,
    pub(super) evidence: EvidenceChain,
    pub(super) counts: Counts,
    pub(super) entries: u64,
    pub(super) forms: FormCheck,
    pub(super) checkpoints: u64,
    pub(super) first_time: String,
    pub(super) last_time: String,
    pub(super) written: Option<(OffsetDateTime, OffsetDateTime)>,
    pub(super) tail: Tail,
    pub(super) several_files: bool,
    pub(super) files: u64,
    pub(super) stopped: bool,
}

impl<'t> Checker<'t> {
    pub(super) fn new(trust: &'t Trust, several_files: bool) -> Self {
        Self {
            context: Context::new(trust),
            outer: Outer::default(),
            actions: ActionChain::default(),
            evidence: EvidenceChain::default(),
            counts: Counts::default(),
            entries: 0,
            forms: FormCheck::default(),
            checkpoints: 0,
            first_time: String::new(),
            last_time: String::new(),
            written: None,
            tail: Tail::default(),
            several_files,
            files: 0,
            stopped: false,
        }
    }

    pub(super) fn add(&mut self, problem: Problem, place: &Place) {
        self.context
            .findings
            .add(problem.rule, place.clone(), problem.expected, problem.found);
    }

    pub(super) fn entry(&mut self, entry: &RecorderEntry<'_>, mut place: Place, visit: Visit<'_>) {
        self.entries = self.entries.saturating_add(1);
        self.widen(entry.text("ts"));
        self.forms.see(entry);
        self.outer.check(entry, &place, &mut self.context.findings);
        let detail = entry.detail();
        self.tail.other();
        match (entry.kind, detail) {
            (EntryKind::Other, _) => {}
            (_, None) => {
                self.add(
                    Problem::new(&rules::ENTRY_FORM, "detail: present", "nothing"),
                    &place,
                );
            }
            (EntryKind::Action, Some(detail)) => {
                let record = detail.member("action_record");
                place.seq = record.and_then(|record| record.member_unsigned("chain_seq"));
                self.tail.receipt(None);
                let hash = self.action(detail, entry, &place);
                if let Some(record) = record {
                    self.note_record(record, entry, hash.as_deref(), &place, visit);
                }
            }
            (EntryKind::Evidence, Some(detail)) => match EvidenceReceipt::read(detail) {
                Ok(receipt) => {
                    place.seq = Some(receipt.seq);
                    if let Some(payload) = detail.member("payload") {
                        visit(&Seen {
                            line: place.line.unwrap_or(0),
                            seq: receipt.seq,
                            is_session: false,
                            is_twin: true,
                            hash: Some(&receipt.hash),
                            record: payload,
                            entry: &entry.node,
                        });
                    }
                    self.evidence.push(receipt, &place, &mut self.context);
                }
                Err(problem) => {
                    self.evidence.push_unreadable();
                    self.add(problem, &place);
                }
            },
            (EntryKind::Checkpoint, Some(detail)) => self.checkpoint(detail, entry, &place),
            (EntryKind::TranscriptRoot, Some(detail)) => self.root(detail, entry, &place),
        }
    }

    /// Checks a version 1 receipt. Returns its hash, or `None` if the receipt cannot be read.
    pub(super) fn action(
        &mut self,
        detail: &Node<'_>,
        entry: &RecorderEntry<'_>,
        place: &Place,
    ) -> Option<String> {
        match Receipt::read(detail) {
            Ok(receipt) => {
                for (name, own) in [("transport", "transport"), ("event_kind", "action_type")] {
                    let outer = entry.text(name);
                    if !outer.is_empty() && outer != receipt.text(own) {
                        let problem = Problem::new(&rules::ENTRY_TEXT, receipt.text(own), outer);
                        self.add(problem, place);
                    }
                }
                let closes = receipt
                    .record
                    .member("session_control")
                    .and_then(|control| control.member("close"))
                    .map(|close| close.member_text("close_reason") == GRACEFUL);
                self.tail.receipt(closes);
                self.actions
                    .push(&receipt, entry.text("session_id"), place, &mut self.context);
                Some(receipt.hash)
            }
            Err(problem) => {
                self.actions.push_unreadable(place.seq);
                self.add(problem, place);
                None
            }
        }
    }

    /// Counts a record and passes it to the visitor, whether it is valid or not.
    pub(super) fn note_record(
        &mut self,
        record: &Node<'_>,
        entry: &RecorderEntry<'_>,
        hash: Option<&str>,
        place: &Place,
        visit: Visit<'_>,
    ) {
        let policies = self.counts.decision_policy_hashes.len();
        self.counts.count(record);
        if policies > 0 && self.counts.decision_policy_hashes.len() > policies {
            let found = record.member_text("policy_hash");
            self.add(
                Problem::new(&rules::POLICY_CHANGED, "one policy", found),
                place,
            );
        }
        let time = record.member_text("timestamp");
        if self.first_time.is_empty() {
            time.clone_into(&mut self.first_time);
        }
        // For times in UTC and in the form of the writers, the order of the texts up to the
        // fraction is the order of the times.
        if let (Some(now), Some(before)) = (time.get(..19), self.last_time.get(..19))
            && time.ends_with('Z')
            && now < before
        {
            let problem = Problem::new(&rules::TIME_ORDER, self.last_time.as_str(), time);
            self.add(problem, place);
        }
        time.clone_into(&mut self.last_time);
        visit(&Seen {
            line: place.line.unwrap_or(0),
            seq: record.member_unsigned("chain_seq").unwrap_or(0),
            is_session: record.member("session_control").is_some(),
            is_twin: false,
            hash,
            record,
            entry: &entry.node,
        });
    }

    /// Checks the numbers of a checkpoint, and its signature over the hash of the previous entry (section 1.4).
    pub(super) fn checkpoint(
        &mut self,
        detail: &Node<'_>,
        entry: &RecorderEntry<'_>,
        place: &Place,
    ) {
        let number = |name: &str| detail.member_unsigned(name);
        let last = number("last_seq");
        // A checkpoint may cover no entries, because a busy Pipelock can write two checkpoints in a row.
        let count = last
            .zip(number("first_seq"))
            .and_then(|(last, first)| last.checked_add(1)?.checked_sub(first));
        if last.and_then(|last| last.checked_add(1)) != Some(entry.seq)
            || count.is_none()
            || count != number("entry_count")
        {
            self.add(
                Problem::new(&rules::CHECKPOINT_FORM, "the entries before it", detail.raw),
                place,
            );
        }
        let text = detail.member_text("signature");
        if text.is_empty() {
            self.add(
                Problem::new(&rules::UNSIGNED_CHECKPOINT, "a signature", "none"),
                place,
            );
            return;
        }
        let mut signature = [0; 64];
        if hex::decode_to_slice(text, &mut signature).is_err() {
            let expected = "128 hex digits";
            self.add(
                Problem::new(&rules::CHECKPOINT_SIGNATURE, expected, text),
                place,
            );
            return;
        }
        let signer = self
            .actions
            .signer
            .as_ref()
            .or(self.evidence.signer.as_ref());
        let key = signer.map(|signer| Arc::clone(&signer.key)).or_else(|| {
            let pinned = self.context.trust.keys.first().copied();
            pinned.map(|key| self.context.ready(key))
        });
        if let Some(key) = key {
            self.context.signature(Job {
                key,
                message: Message::Text(entry.text("prev_hash").as_bytes().to_vec()),
                signature,
                rule: &rules::CHECKPOINT_SIGNATURE,
                place: place.clone(),
            });
            self.checkpoints = self.checkpoints.saturating_add(1);
            self.tail.checkpoint();
        }
    }

    /// Notes a time that an entry states, if it is valid.
    fn widen(&mut self, text: &str) {
        if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
            let (first, last) = self.written.unwrap_or((time, time));
            self.written = Some((first.min(time), last.max(time)));
        }
    }

    /// Checks that the transcript root describes the version 1 chain up to this entry.
    pub(super) fn root(&mut self, detail: &Node<'_>, entry: &RecorderEntry<'_>, place: &Place) {
        for name in ["start_time", "end_time"] {
            self.widen(detail.member_text(name));
        }
        let holds = detail.member_text("session_id") == entry.text("session_id")
            && detail.member_unsigned("final_seq") == self.actions.last_seq
            && detail.member_unsigned("receipt_count") == Some(self.actions.count)
            && self
                .actions
                .head
                .as_deref()
                .is_none_or(|head| head == detail.member_text("root_hash"));
        if holds {
            self.tail.root();
            return;
        }
        let expected = format!(
            "{} receipts, last {:?}, root {}",
            self.actions.count,
            self.actions.last_seq.unwrap_or(0),
            self.actions.head.as_deref().unwrap_or("unknown")
        );
        self.add(Problem::new(&rules::ROOT, expected, detail.raw), place);
    }

    /// Completes the check and returns the report.
    pub(super) fn finish(mut self) -> EvidenceReport {
        self.context.queue.flush(&mut self.context.findings);
        self.actions.sessions.finish(&mut self.context.findings);
        let decisions = self
            .actions
            .count
            .saturating_sub(self.actions.sessions.controls);
        if self.evidence.count > 0 && self.actions.count > 0 && self.evidence.count != decisions {
            let found = format!("{} twins", self.evidence.count);
            let problem = Problem::new(&rules::V2_COUNT, format!("{decisions} twins"), found);
            self.add(problem, &Place::default());
        }
        if let Some(signer) = &self.evidence.signer
            && !self.actions.signers.is_empty()
            && !self.actions.signers.contains(&signer.hex)
        {
            let expected = self.actions.signers.join(" or ");
            let problem = Problem::new(&rules::V2_SIGNER, expected, signer.hex.as_str());
            self.add(problem, &Place::default());
        }
        let nothing = self.actions.count == 0 && self.evidence.count == 0;
        if nothing && !self.context.findings.has_errors() {
            let problem = Problem::new(
                &rules::NO_RECEIPTS,
                "a receipt",
                format!("{} entries", self.entries),
            );
            self.add(problem, &Place::default());
        }
        self.into_report()
    }

    pub(super) fn into_report(self) -> EvidenceReport {
        let end = self.tail.end(self.actions.sessions.controls > 0);
        let has_errors = self.context.findings.has_errors();
        let nothing = self.actions.count == 0 && self.evidence.count == 0;
        let (findings, suppressed) = self.context.findings.into_ranked();
        let only_empty = findings
            .iter()
            .all(|finding| finding.rule == &rules::NO_RECEIPTS);
        let verdict = if nothing && only_empty {
            EvidenceVerdict::Error
        } else if has_errors || nothing {
            EvidenceVerdict::Invalid
        } else if self.context.trust.keys.is_empty() {
            EvidenceVerdict::SelfConsistentOnly
        } else {
            EvidenceVerdict::Valid
        };
        let main_is_v1 = self.actions.count > 0;
        let mut signer_keys = self.actions.signers;
        let mut counts = self.counts;
        let (receipt_count, final_seq, root_hash) = if main_is_v1 {
            (self.actions.count, self.actions.last_seq, self.actions.head)
        } else {
            signer_keys.extend(self.evidence.signer.map(|signer| signer.hex));
            // Without a version 1 chain, all version 2 receipts count as `other` (section 6.2).
            counts.totals.other = self.evidence.count;
            (
                self.evidence.count,
                self.evidence.count.checked_sub(1),
                self.evidence.head.clone(),
            )
        };
        let sessions = self.actions.sessions;
        EvidenceReport {
            verdict,
            end,
            findings,
            suppressed,
            is_whole: !self.stopped,
            entries: self.entries,
            receipt_count,
            evidence_receipts: self.evidence.count,
            evidence_final_seq: self.evidence.count.checked_sub(1),
            evidence_root_hash: self.evidence.head,
            checkpoints: self.checkpoints,
            final_seq,
            root_hash,
            signer_keys,
            recorder_session: self.outer.session.unwrap_or_default(),
            session_records: sessions.controls,
            intents: sessions.intents,
            outcomes: sessions.outcomes,
            open_intents: sessions.open_intents(),
            session: sessions.facts,
            first_time: self.first_time,
            last_time: self.last_time,
            written: self.written,
            forms: self.forms.forms,
            counts,
        }
    }
}
