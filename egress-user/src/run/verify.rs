//! `Collected → Verified`: checks the evidence under the run's key, with the same code as `egress verify`. The step
//! does not fail: the value contains the verdict, even if it is `invalid`.
use audit_packet::reconcile::Receipts;
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence_visiting};
use pipelock_receipts::report::EvidenceReport;

use super::collect::Collected;
use super::facts::RunFacts;

/// A run whose evidence was checked.
#[derive(Debug)]
#[must_use = "no packet is written yet"]
pub struct Verified {
    run: RunFacts,
    report: EvidenceReport,
    receipts: Receipts,
}

impl Collected {
    /// Checks the evidence. Only a key that the caller supplied is trusted. A key that was generated for this run does
    /// not prove who signed the evidence.
    pub fn verify(self) -> Verified {
        let run = self.into_facts();
        let signer = &run.context.plan.signer;
        let key = signer.pinned.then(|| signer.key.verifying_key());
        let keys = key.into_iter().collect();
        let names: Vec<String> = run
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
            .zip(&run.evidence)
            .map(|(name, (_, bytes))| EvidenceFile { name, bytes })
            .collect();
        let mut receipts = Receipts::default();
        let report = check_evidence_visiting(&files, &Trust { keys }, &mut |seen| {
            receipts.see(seen);
        });
        Verified {
            run,
            report,
            receipts,
        }
    }
}

impl Verified {
    pub(super) fn into_parts(self) -> (Receipts, EvidenceReport, RunFacts) {
        (self.receipts, self.report, self.run)
    }
}
