//! Compares the inline receipts of a packet with the evidence.
use std::collections::BTreeMap;

use pipelock_receipts::check::Seen;
use pipelock_receipts::findings::{Findings, Place};
use serde_json::Value as Json;

use super::rules;

/// The inline receipts that were not compared yet, and the differences so far.
pub(super) struct Inline<'p> {
    wanted: BTreeMap<u64, &'p Json>,
    wrong: Vec<(u64, &'static str)>,
}

impl<'p> Inline<'p> {
    pub(super) fn new(receipts: &'p [Json]) -> Self {
        let mut inline = Self {
            wanted: BTreeMap::new(),
            wrong: Vec::new(),
        };
        for receipt in receipts {
            match receipt.get("chain_seq").and_then(Json::as_u64) {
                Some(seq) if !inline.wanted.contains_key(&seq) => {
                    inline.wanted.insert(seq, receipt);
                }
                Some(seq) => inline.wrong.push((seq, "each chain_seq once")),
                None => inline.wrong.push((0, "chain_seq in each receipt")),
            }
        }
        inline
    }

    pub(super) fn see(&mut self, seen: &Seen<'_>) {
        let Some(copy) = self.wanted.remove(&seen.seq) else {
            return;
        };
        for name in [
            "action_id",
            "chain_prev_hash",
            "verdict",
            "policy_hash",
            "timestamp",
            "action_type",
            "transport",
            "method",
            "layer",
            "pattern",
            "severity",
        ] {
            if let Some(text) = copy.get(name)
                && text.as_str() != Some(seen.text(name))
            {
                self.wrong.push((seen.seq, name));
            }
        }
        if let (Some(text), Some(hash)) = (copy.get("receipt_hash"), seen.hash)
            && text.as_str().map(|text| text.trim_start_matches("sha256:")) != Some(hash)
        {
            self.wrong.push((seen.seq, "receipt_hash"));
        }
    }

    pub(super) fn finish(self, findings: &mut Findings) {
        let missing = self
            .wanted
            .into_keys()
            .map(|seq| (seq, "a receipt with this number in the evidence"));
        for (seq, name) in self.wrong.into_iter().chain(missing) {
            let place = Place {
                seq: Some(seq),
                ..rules::here()
            };
            findings.add(&rules::INLINE, place, name, "");
        }
    }
}
