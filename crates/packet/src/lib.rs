//! Puts the evidence of a run into one Audit Packet and reads it back; every length is bounded.
//!
//! Pure: [`build::build`] makes the model from values, [`check::check_packet`] judges bytes, and
//! [`flows`] chains and checks the kernel's log. The caller reads and writes the files.
#![forbid(unsafe_code)]
#![deny(clippy::as_conversions, clippy::arithmetic_side_effects)]

pub mod attest;
pub mod boundary;
pub mod build;
pub mod check;
mod counted;
pub mod denied;
mod display;
pub mod flows;
mod form;
pub mod grade;
pub mod html;
pub mod identity;
mod inline;
mod joined;
pub mod measured;
pub mod model;
pub mod posture;
pub mod reconcile;
pub mod rendered;
mod repeated;
pub mod required;
pub mod residual;
pub mod rows;
pub mod rules;
mod statements;
pub mod stream;
pub mod summary;
pub mod timestamp;
mod unbroken;
pub mod verifier_text;

use pipelock_receipts::findings::Rule;
use serde::Serialize;

/// A value as a file of the packet states it, for a finding.
fn as_stated(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::Null) => String::from("nothing"),
        Ok(serde_json::Value::String(text)) => text,
        Ok(value) => value.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Every rule that the check of a packet, of evidence, or of a receipt can name. `docs/rules.md` explains each.
pub fn all_rules() -> impl Iterator<Item = &'static Rule> {
    let lists = [
        pipelock_receipts::rules::ALL,
        rules::ALL,
        timestamp::rules::ALL,
    ];
    lists.into_iter().flatten().copied()
}

/// Name of the packet in its directory.
pub const PACKET_FILE: &str = "packet.json";
/// Name of the evidence.
pub const EVIDENCE_FILE: &str = "evidence.jsonl";
/// Name of the verifier's output.
pub const VERIFIER_FILE: &str = "verifier.txt";
/// Name of the summary.
pub const SUMMARY_FILE: &str = "summary.md";
/// Name of the page for a browser.
pub const REPORT_FILE: &str = "report.html";
/// Name of the kernel's log.
pub const FLOWS_FILE: &str = "flows.jsonl";
/// Name of the measured posture.
pub const BOUNDARY_FILE: &str = "boundary.json";
/// Name of the runtime policy.
pub const POLICY_FILE: &str = "policy.yaml";
/// Every change that the agent made to the workspace, and what became of it.
pub const CHANGES_FILE: &str = "changes.json";
/// `posture.enforcement_mode` of a packet of `--mode audit`: nothing was enforced.
pub const AUDIT_ENFORCEMENT: &str = "none_audit";
/// The posture capsule that `session_open` binds.
pub const CAPSULE_FILE: &str = "posture-capsule.json";
/// The agent's versions of what was not applied.
pub const CHANGES_ARCHIVE: &str = "workspace-changes.tar";
/// Which run the packet is of.
pub const IDENTITY_FILE: &str = "identity.json";
/// The signature over all other files.
pub const ATTESTATION_FILE: &str = "attestation.json";
/// The time stamp over the attestation, which therefore does not name it.
pub const TIMESTAMP_FILE: &str = "timestamp.tsr";

/// Names that a packet consists of. A directory that holds anything else is not replaced.
pub const PACKET_FILES: [&str; 14] = [
    ATTESTATION_FILE,
    BOUNDARY_FILE,
    CHANGES_FILE,
    EVIDENCE_FILE,
    FLOWS_FILE,
    IDENTITY_FILE,
    PACKET_FILE,
    POLICY_FILE,
    CAPSULE_FILE,
    REPORT_FILE,
    SUMMARY_FILE,
    TIMESTAMP_FILE,
    VERIFIER_FILE,
    CHANGES_ARCHIVE,
];
