//! Builds the model of `packet.json` when a run has ended.
use std::collections::BTreeMap;

use pipelock_receipts::report::{EvidenceReport, EvidenceVerdict};

use super::model::totals;
use super::model::{
    Artifacts, Packet, PacketVerdict, Policy, Posture, Run, SCHEMA_VERSION, ScannerConfig, Summary,
    Verifier,
};
use super::names::{EVIDENCE_FILE, PACKET_FILE, SUMMARY_FILE, VERIFIER_FILE};

/// The values of a packet that are not in the evidence.
#[derive(Debug, Clone)]
pub struct PacketInputs {
    /// Opaque identifier of the packet.
    pub packet_id: Option<String>,
    /// Current time, RFC 3339 in UTC.
    pub generated_at: String,
    /// The run that the packet describes.
    pub run: Run,
    /// The caller's policy file.
    pub config_path: Option<String>,
    /// The file that the mediator read.
    pub runtime_config_path: Option<String>,
    /// SHA-256 of the file that the mediator read, lowercase hex.
    pub config_snapshot_sha256: Option<String>,
    /// The scanners that the policy configures.
    pub scanner_config_snapshot: Option<ScannerConfig>,
    /// The measured enforcement.
    pub posture: Posture,
}

/// Builds the packet. All counts come from `report`, the check of the evidence with the pinned key.
pub fn build(inputs: PacketInputs, report: &EvidenceReport) -> Packet {
    let counts = &report.counts;
    Packet {
        schema_version: String::from(SCHEMA_VERSION),
        packet_id: inputs.packet_id,
        generated_at: inputs.generated_at,
        run: inputs.run,
        policy: Policy {
            policy_hashes: counts.policy_hashes.iter().cloned().collect(),
            config_path: inputs.config_path,
            runtime_config_path: inputs.runtime_config_path,
            config_snapshot_sha256: inputs.config_snapshot_sha256,
        },
        summary: Summary {
            receipt_count: report.receipt_count,
            totals: totals(report),
            transports: Some(counts.transports.clone()),
            layers: not_empty(&counts.layers),
            domains_touched: Some(counts.domains.iter().cloned().collect()),
        },
        verifier: verifier(report),
        receipts: None,
        scanner_config_snapshot: inputs.scanner_config_snapshot,
        posture: inputs.posture,
        artifacts: Artifacts {
            packet: String::from(PACKET_FILE),
            summary: Some(String::from(SUMMARY_FILE)),
            evidence: String::from(EVIDENCE_FILE),
            verifier: String::from(VERIFIER_FILE),
        },
    }
}

/// Builds the member `verifier`. If the evidence is valid, `trusted` is true and `signer_key` is present. Otherwise
/// `trusted` is false and `signer_key` is absent.
fn verifier(report: &EvidenceReport) -> Verifier {
    let verdict = match report.verdict {
        EvidenceVerdict::Valid => PacketVerdict::Valid,
        EvidenceVerdict::SelfConsistentOnly => PacketVerdict::SelfConsistentOnly,
        EvidenceVerdict::Invalid => PacketVerdict::Invalid,
        EvidenceVerdict::Error => PacketVerdict::Error,
    };
    let trusted = verdict == PacketVerdict::Valid;
    let first = report.findings.first();
    let error = first.filter(|_| !report.is_consistent()).map(|finding| {
        let place = finding.place.to_string();
        let separator = if place.is_empty() { "" } else { ": " };
        format!(
            "{}{separator}{} ({})",
            place, finding.rule.problem, finding.rule.id
        )
    });
    Verifier {
        verdict,
        trusted,
        receipt_count: Some(report.receipt_count),
        root_hash: report.root_hash.clone(),
        final_seq: report.final_seq,
        signer_key: report.signer_keys.first().filter(|_| trusted).cloned(),
        output_file: Some(String::from(VERIFIER_FILE)),
        error,
    }
}

fn not_empty(map: &BTreeMap<String, u64>) -> Option<BTreeMap<String, u64>> {
    (!map.is_empty()).then(|| map.clone())
}
