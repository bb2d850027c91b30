//! `Collected → Verified`: the evidence is checked under the run's key, by the same code that
//! `egress verify` is. The verdict is inside, good or bad.
use audit_packet::reconcile::Receipts;
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence_visiting};
use pipelock_receipts::report::{Report, Verdict};

use super::collect::Collected;

/// A run whose evidence was checked.
#[derive(Debug)]
#[must_use = "no packet is written yet"]
pub struct Verified {
    pub(super) run: Collected,
    pub(super) report: Report,
    pub(super) receipts: Receipts,
}

impl Collected {
    /// Checks the evidence. A key that the caller named is pinned; one that was made for this run
    /// proves nothing to anybody else.
    pub fn verify(self) -> Verified {
        let keys = if self.plan.signer.pinned {
            vec![self.plan.signer.key.verifying_key()]
        } else {
            Vec::new()
        };
        let names: Vec<String> = self
            .evidence
            .iter()
            .map(|(path, _)| {
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        let files: Vec<EvidenceFile<'_>> = names
            .iter()
            .zip(&self.evidence)
            .map(|(name, (_, bytes))| EvidenceFile { name, bytes })
            .collect();
        let mut receipts = Receipts::default();
        let report = check_evidence_visiting(&files, &Trust { keys }, &mut |seen| {
            receipts.see(seen);
        });
        Verified {
            run: self,
            report,
            receipts,
        }
    }

    /// All evidence files, one after the other, byte for byte.
    pub(super) fn evidence_bytes(&self) -> Vec<u8> {
        self.evidence
            .iter()
            .flat_map(|(_, bytes)| bytes.iter().copied())
            .collect()
    }
}

impl Verified {
    /// What the check said.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Whether the evidence is there and sound, pinned or not.
    pub(super) fn is_sound(&self) -> bool {
        match self.report.verdict {
            Verdict::Valid => true,
            Verdict::SelfConsistentOnly => !self.run.plan.require_trusted,
            Verdict::Invalid | Verdict::Error => false,
        }
    }
}
