//! The names of the files of a packet.
/// The packet itself.
pub const PACKET_FILE: &str = "packet.json";
/// The signed receipts.
pub const EVIDENCE_FILE: &str = "evidence.jsonl";
/// The output of the verifier.
pub const VERIFIER_FILE: &str = "verifier.txt";
/// The summary for people.
pub const SUMMARY_FILE: &str = "summary.md";
/// The page for a browser.
pub const REPORT_FILE: &str = "report.html";
/// The flow log.
pub const FLOWS_FILE: &str = "flows.jsonl";
/// The measurements of the boundary.
pub const BOUNDARY_FILE: &str = "boundary.json";
/// The runtime policy.
pub const POLICY_FILE: &str = "policy.yaml";
/// The command's changes to the workspace, with their outcomes.
pub const CHANGES_FILE: &str = "changes.json";
/// The posture capsule that `session_open` binds.
pub const CAPSULE_FILE: &str = "posture-capsule.json";
/// The archive of the changes that were not applied.
pub const CHANGES_ARCHIVE: &str = "workspace-changes.tar";
/// The identity of the run.
pub const IDENTITY_FILE: &str = "identity.json";
/// The signature over the digests of all other files except the time stamp.
pub const ATTESTATION_FILE: &str = "attestation.json";
/// The time stamp over the attestation. The attestation does not name this file, because the
/// attestation is created first.
pub const TIMESTAMP_FILE: &str = "timestamp.tsr";

/// The names of all files that a packet can have. `egress run` does not replace a directory that contains any other
/// name.
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
