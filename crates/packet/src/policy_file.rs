//! Checks that `policy.yaml` is the policy that the packet and its receipts name.
//!
//! Claims: policy-shown
use std::collections::BTreeSet;

use pipelock_receipts::findings::Findings;
use pipelock_receipts::report::EvidenceReport;
use sha2::{Digest, Sha256};

use super::format::boundary::BoundaryDocument;
use super::model::Packet;
use super::rules;

/// Returns the hashes in receipts that must be equal to the hash of the file. The built-in mediator and Pipelock 2.x
/// sign the hash of the file, and neither writes version 2 receipts. For Pipelock 3.x, returns `None`, because Pipelock
/// 3.x signs the hash of a canonical form, which cannot be recomputed here.
fn hashes<'r>(
    report: &'r EvidenceReport,
    boundary_document: Option<&BoundaryDocument>,
) -> Option<&'r BTreeSet<String>> {
    let counts = &report.counts;
    match boundary_document {
        Some(boundary_document) if boundary_document.mediator.is_builtin() => {
            Some(&counts.policy_hashes)
        }
        _ if report.evidence_receipts == 0 => Some(&counts.decision_policy_hashes),
        _ => None,
    }
}

/// Checks that the hash of `policy.yaml` is the one that the packet states and, if [`hashes`] returns any, the one in
/// the receipts.
pub(super) fn check(
    packet: &Packet,
    policy: &[u8],
    report: &EvidenceReport,
    boundary_document: Option<&BoundaryDocument>,
    findings: &mut Findings,
) {
    let actual = hex::encode(Sha256::digest(policy));
    if let Some(stated) = packet.policy.config_snapshot_sha256.as_deref()
        && stated.strip_prefix("sha256:").unwrap_or(stated) != actual
    {
        findings.add(&rules::POLICY, rules::here(), actual.as_str(), stated);
    }
    for hash in hashes(report, boundary_document).into_iter().flatten() {
        if *hash != actual {
            findings.add(
                &rules::POLICY,
                rules::here(),
                actual.as_str(),
                format!("{hash} in receipts"),
            );
        }
    }
}
