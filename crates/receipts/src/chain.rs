//! Checks the two receipt chains of a file, version 1 and version 2 (evidence protocol, sections 2.4, 2.6, and 3.4).
//!
//! Claims: decisions-signed
use std::collections::BTreeMap;
use std::sync::Arc;

use ed25519_dalek::VerifyingKey;

use super::action::Receipt;
use super::ed25519::Key;
use super::evidence::EvidenceReceipt;
use super::findings::{Findings, Place};
use super::keys::public_from_bytes;
use super::record::{GENESIS, SESSION_GENESIS_PREFIX};
use super::rules;
use super::session::{Link, Sessions};
use super::signatures::{Job, Message, Queue};

/// Number of keys whose multiples are cached. The multiples of one key take a quarter of a megabyte, and usually few
/// keys sign evidence.
const READY_KEYS: usize = 16;

/// The public keys that a reviewer pins. Without a pinned key, a check can only find that the
/// evidence is self-consistent.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Pinned keys.
    pub keys: Vec<VerifyingKey>,
}

impl Trust {
    /// Whether `key` is pinned, or no key is pinned.
    fn accepts(&self, key: &VerifyingKey) -> bool {
        self.keys.is_empty() || self.keys.contains(key)
    }

    /// Returns the pinned keys as the text of a finding.
    fn names(&self) -> String {
        let names: Vec<String> = self
            .keys
            .iter()
            .map(|key| hex::encode(key.to_bytes()))
            .collect();
        names.join(" or ")
    }
}

/// State that all checks of the same evidence share.
#[derive(Debug)]
pub(crate) struct Context<'t> {
    pub(crate) trust: &'t Trust,
    pub(crate) findings: Findings,
    pub(crate) queue: Queue,
    keys: BTreeMap<[u8; 32], Arc<Key>>,
}

impl<'t> Context<'t> {
    pub(crate) fn new(trust: &'t Trust) -> Self {
        Self {
            trust,
            findings: Findings::default(),
            queue: Queue::default(),
            keys: BTreeMap::new(),
        }
    }

    /// Returns the cached form of `key`, prepared for many checks.
    pub(crate) fn ready(&mut self, key: VerifyingKey) -> Arc<Key> {
        if self.keys.len() >= READY_KEYS {
            self.keys.clear();
        }
        let ready = self.keys.entry(key.to_bytes());
        Arc::clone(ready.or_insert_with(|| Arc::new(Key::new(key))))
    }

    /// Queues a signature for its check.
    pub(crate) fn signature(&mut self, job: Job) {
        self.queue.push(job, &mut self.findings);
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Signer {
    pub(crate) key: Arc<Key>,
    pub(crate) hex: String,
}

#[derive(Debug, Default)]
pub(crate) struct ActionChain {
    pub(crate) signer: Option<Signer>,
    pub(crate) signers: Vec<String>,
    pub(crate) count: u64,
    pub(crate) last_seq: Option<u64>,
    /// Hash of the last receipt. `None` at the start and after a receipt without a hash.
    pub(crate) head: Option<String>,
    pub(crate) sessions: Sessions,
    segment_count: u64,
    /// An earlier line could not be read. That line may have been a receipt.
    gap: bool,
}

impl ActionChain {
    /// Checks one receipt and makes it the head of the chain.
    pub(crate) fn push(
        &mut self,
        receipt: &Receipt<'_, '_>,
        recorder_session: &str,
        place: &Place,
        context: &mut Context<'_>,
    ) {
        let gap = std::mem::take(&mut self.gap);
        let first = self.count == 0 && (!gap || receipt.seq() == 0);
        let has_transition = receipt.record.member("key_transition").is_some();
        let trusted = if self.signer.is_none() {
            if has_transition {
                context.findings.add(
                    &rules::TRANSITION,
                    place.clone(),
                    "a first receipt without key_transition",
                    "key_transition",
                );
            }
            self.set_signer(receipt, place, context)
        } else if has_transition {
            self.transition(receipt, place, context)
        } else if self
            .signer
            .as_ref()
            .is_some_and(|signer| signer.hex == receipt.signer_key)
        {
            true
        } else {
            let expected = self
                .signer
                .as_ref()
                .map_or("", |signer| signer.hex.as_str());
            context.findings.add(
                &rules::CHAIN_SIGNER,
                place.clone(),
                expected,
                receipt.signer_key,
            );
            false
        };
        if !gap {
            self.check_link(receipt, first, has_transition, place, context);
        }
        if trusted && let Some(signer) = &self.signer {
            context.signature(Job {
                key: Arc::clone(&signer.key),
                message: Message::Digest(receipt.message),
                signature: receipt.signature,
                rule: &rules::SIGNATURE,
                place: place.clone(),
            });
        }
        self.count = self.count.saturating_add(1);
        self.segment_count = self.segment_count.saturating_add(1);
        let link = Link {
            head: self.head.as_deref(),
            last_seq: self.last_seq,
            first,
            segment_count: self.segment_count,
            recorder_session,
        };
        self.sessions
            .check(receipt, link, place, &mut context.findings);
        self.last_seq = Some(receipt.seq());
        self.head = Some(receipt.hash.clone());
    }

    /// Checks the key and the signature of a receipt without a chain.
    pub(crate) fn push_single(
        &mut self,
        receipt: &Receipt<'_, '_>,
        place: &Place,
        context: &mut Context<'_>,
    ) {
        if self.set_signer(receipt, place, context)
            && let Some(signer) = &self.signer
        {
            context.signature(Job {
                key: Arc::clone(&signer.key),
                message: Message::Digest(receipt.message),
                signature: receipt.signature,
                rule: &rules::SIGNATURE,
                place: place.clone(),
            });
        }
        self.count = 1;
        self.last_seq = Some(receipt.seq());
        self.head = Some(receipt.hash.clone());
    }

    /// Counts a receipt that could not be read. The next receipt cannot be linked to it.
    pub(crate) fn push_unreadable(&mut self, seq: Option<u64>) {
        self.count = self.count.saturating_add(1);
        self.segment_count = self.segment_count.saturating_add(1);
        self.last_seq = seq.or(self.last_seq.and_then(|seq| seq.checked_add(1)));
        self.lose();
    }

    /// Notes that a line could not be read, so that the next receipt cannot be linked.
    pub(crate) fn lose(&mut self) {
        if self.signer.is_none() {
            self.sessions.lose();
        }
        self.head = None;
        self.gap = true;
    }

    /// Makes the receipt's key the key of the chain, and returns `false` if the text is not a usable key. An untrusted
    /// key is a finding, but is still used, so that one cause produces one finding.
    fn set_signer(
        &mut self,
        receipt: &Receipt<'_, '_>,
        place: &Place,
        context: &mut Context<'_>,
    ) -> bool {
        let bytes = hex::decode(receipt.signer_key).unwrap_or_default();
        let Ok(key) = public_from_bytes(&bytes) else {
            context.findings.add(
                &rules::SIGNATURE_FORM,
                place.clone(),
                "an Ed25519 key",
                receipt.signer_key,
            );
            return false;
        };
        if !context.trust.accepts(&key) {
            let expected = context.trust.names();
            context.findings.add(
                &rules::UNTRUSTED,
                place.clone(),
                expected,
                receipt.signer_key,
            );
        }
        let signer = Signer {
            key: context.ready(key),
            hex: String::from(receipt.signer_key),
        };
        if !self.signers.contains(&signer.hex) {
            self.signers.push(signer.hex.clone());
        }
        self.signer = Some(signer);
        true
    }

    /// Checks a change of keys (section 2.6), and returns whether the new key can be used. The marker alone does not
    /// make the new key trusted, so the new key must be pinned.
    fn transition(
        &mut self,
        receipt: &Receipt<'_, '_>,
        place: &Place,
        context: &mut Context<'_>,
    ) -> bool {
        let Some(marker) = receipt.record.member("key_transition") else {
            return false;
        };
        let prior = self
            .signer
            .as_ref()
            .map_or("", |signer| signer.hex.as_str());
        let fits = receipt.seq() == 0
            && marker.member_text("prior_signer_key") == prior
            && receipt.signer_key != prior
            && marker.member_unsigned("prior_chain_seq") == self.last_seq
            && marker.member_text("prior_chain_hash") == receipt.text("chain_prev_hash")
            && Some(marker.member_text("prior_chain_hash")) == self.head.as_deref();
        if !fits {
            context.findings.add(
                &rules::TRANSITION,
                place.clone(),
                "the end of the previous chain",
                marker.raw,
            );
        }
        if context.trust.keys.is_empty() {
            context.findings.add(
                &rules::UNTRUSTED,
                place.clone(),
                "a pinned key for a key transition",
                receipt.signer_key,
            );
        }
        self.segment_count = 0;
        self.set_signer(receipt, place, context)
    }

    /// Checks the sequence number and the link to the previous receipt.
    fn check_link(
        &self,
        receipt: &Receipt<'_, '_>,
        first: bool,
        has_transition: bool,
        place: &Place,
        context: &mut Context<'_>,
    ) {
        let prev = receipt.text("chain_prev_hash");
        let seq = receipt.seq();
        let findings = &mut context.findings;
        if first {
            if seq != 0 {
                findings.add(
                    &rules::CHAIN_SEQ,
                    place.clone(),
                    "receipt 0",
                    seq.to_string(),
                );
            }
            if prev != GENESIS && !prev.starts_with(SESSION_GENESIS_PREFIX) {
                findings.add(&rules::CHAIN_LINK, place.clone(), GENESIS, prev);
            }
            return;
        }
        if !has_transition
            && seq == 0
            && (prev == GENESIS || prev.starts_with(SESSION_GENESIS_PREFIX))
        {
            findings.add(
                &rules::SECOND_START,
                place.clone(),
                "one chain",
                "a second start",
            );
            return;
        }
        let expected = self.last_seq.and_then(|last| last.checked_add(1));
        if !has_transition && expected != Some(seq) {
            let expected = expected.map_or_else(String::new, |seq| format!("receipt {seq}"));
            findings.add(
                &rules::CHAIN_SEQ,
                place.clone(),
                expected,
                format!("receipt {seq}"),
            );
        }
        if let Some(head) = &self.head
            && head != prev
        {
            findings.add(&rules::CHAIN_LINK, place.clone(), head.as_str(), prev);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct EvidenceChain {
    pub(crate) count: u64,
    pub(crate) head: Option<String>,
    pub(crate) signer: Option<Signer>,
    next_seq: u64,
    gap: bool,
}

impl EvidenceChain {
    /// Checks one receipt and makes it the head of the chain.
    pub(crate) fn push(
        &mut self,
        receipt: EvidenceReceipt<'_>,
        place: &Place,
        context: &mut Context<'_>,
    ) {
        let findings = &mut context.findings;
        if std::mem::take(&mut self.gap) {
            // The previous receipt is unknown.
        } else if self.count > 0 && receipt.seq == 0 && receipt.prev_hash == GENESIS {
            findings.add(
                &rules::SECOND_PROCESS,
                place.clone(),
                "one version 2 chain",
                "a second start",
            );
        } else {
            if receipt.seq != self.next_seq {
                findings.add(
                    &rules::V2_SEQ,
                    place.clone(),
                    self.next_seq.to_string(),
                    receipt.seq.to_string(),
                );
            }
            let expected = self.head.as_deref().unwrap_or(GENESIS);
            if receipt.prev_hash != expected {
                findings.add(&rules::V2_LINK, place.clone(), expected, receipt.prev_hash);
            }
        }
        let same = match &self.signer {
            Some(signer) => signer.hex == receipt.signer_key,
            None => self.set_signer(receipt.signer_key, place, context),
        };
        if !same {
            let expected = self
                .signer
                .as_ref()
                .map_or("a key", |signer| signer.hex.as_str());
            context.findings.add(
                &rules::V2_SIGNER,
                place.clone(),
                expected,
                receipt.signer_key,
            );
        } else if let Some(signer) = &self.signer {
            context.signature(Job {
                key: Arc::clone(&signer.key),
                message: Message::Text(receipt.preimage.into_bytes()),
                signature: receipt.signature,
                rule: &rules::SIGNATURE,
                place: place.clone(),
            });
        }
        self.count = self.count.saturating_add(1);
        self.next_seq = receipt.seq.saturating_add(1);
        self.head = Some(receipt.hash);
    }

    /// Counts a receipt that could not be read.
    pub(crate) fn push_unreadable(&mut self) {
        self.count = self.count.saturating_add(1);
        self.lose();
    }

    /// Notes that a line could not be read, so that the next receipt cannot be linked.
    pub(crate) fn lose(&mut self) {
        self.head = None;
        self.gap = true;
    }

    /// Sets the chain's signer to the key of the first receipt. Returns `false` if `text` is not a usable key.
    fn set_signer(&mut self, text: &str, place: &Place, context: &mut Context<'_>) -> bool {
        let bytes = hex::decode(text).unwrap_or_default();
        let Ok(key) = public_from_bytes(&bytes) else {
            return false;
        };
        if !context.trust.accepts(&key) {
            let expected = context.trust.names();
            context
                .findings
                .add(&rules::UNTRUSTED, place.clone(), expected, text);
        }
        self.signer = Some(Signer {
            key: context.ready(key),
            hex: String::from(text),
        });
        true
    }
}
