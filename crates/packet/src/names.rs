//! The names of the files of a packet.
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
