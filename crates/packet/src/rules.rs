//! The rules of the packet check. The ranks of these rules come after the ranks of the evidence
//! rules, because a fault of the evidence is often the cause.
use pipelock_receipts::findings::Place;

use super::names::PACKET_FILE;

pipelock_receipts::rules! {
pub static MISSING: Rule = Rule::error(
    "packet.missing",
    68,
    "this is not a whole packet, although the requested check needs one, or other files of a packet are present",
    "name the packet directory; if it has no packet.json, get the whole packet again",
);
pub static SIZE: Rule = Rule::error(
    "packet.size",
    65,
    "a file of the packet is longer than its limit and was not read",
    "get the packet from its run again; egress run writes no document of this length",
);
pub static JSON: Rule = Rule::error("packet.json", 70, "packet.json is not strict JSON", "");
pub static SCHEMA: Rule = Rule::error(
    "packet.schema",
    71,
    "packet.json does not match schema v0",
    "",
);
pub static RULE: Rule = Rule::error("packet.rule", 72, "packet.json contradicts itself", "");
pub static PATH: Rule =
    Rule::error("packet.path", 73, "the path of an artifact points outside the packet", "");
pub static EVIDENCE: Rule =
    Rule::error("packet.evidence", 74, "the evidence cannot be read", "");
pub static SIGNER: Rule = Rule::error(
    "packet.signer",
    75,
    "the signer in packet.json is not the signer of the receipts",
    "trust the key that you pinned, not the packet's",
);
pub static VERDICT: Rule = Rule::error(
    "packet.verdict",
    76,
    "the packet's verdict is not what the evidence shows",
    "",
);
pub static COUNT: Rule = Rule::error(
    "packet.count",
    77,
    "the counts in packet.json do not match the receipts in the evidence",
    "",
);
pub static ROOT: Rule = Rule::error(
    "packet.root",
    78,
    "the end of the chain in packet.json is not its end in the evidence",
    "",
);
pub static POLICY: Rule = Rule::error(
    "packet.policy",
    79,
    "the policy is not the one that the packet or the receipts name",
    "the file was changed after the run, or the policy was reloaded during the run",
);
pub static INLINE: Rule = Rule::error(
    "packet.receipts",
    80,
    "an inline receipt differs from the evidence",
    "",
);
pub static ATTESTATION_FORM: Rule = Rule::error(
    "attestation.form",
    90,
    "the attestation does not match the schema",
    "",
);
pub static ATTESTATION_SIGNATURE: Rule = Rule::error(
    "attestation.signature",
    91,
    "no signature of the attestation is valid under the boundary key",
    "check that the boundary key belongs to this run",
);
pub static ATTESTATION_DIGEST: Rule = Rule::error(
    "attestation.digest",
    92,
    "a file is not the one that was signed",
    "the file was changed after the run",
);
pub static ATTESTATION_MISSING: Rule = Rule::error(
    "attestation.missing",
    93,
    "a file that was signed is missing",
    "",
);
pub static ATTESTATION_EXTRA: Rule = Rule::error(
    "attestation.extra",
    94,
    "a file of the directory is not signed",
    "remove the file, which is not part of the packet",
);
pub static ATTESTATION_NONE: Rule = Rule::error(
    "attestation.none",
    95,
    "a boundary key is pinned, but the packet has no attestation",
    "leave out --boundary-key only for a packet that egress run did not make",
);
pub static ATTESTATION_SIGNER: Rule = Rule::error(
    "attestation.signer",
    89,
    "the key that signed the attestation is not the key that the receipts bind",
    "these files were signed again without the boundary key",
);
pub static BOUNDARY_FORM: Rule =
    Rule::error("boundary.form", 96, "boundary.json does not match the schema", "");
pub static BOUNDARY_FLOWS: Rule = Rule::error(
    "boundary.flows",
    97,
    "flows.jsonl is not the log that boundary.json names",
    "one of the two was changed after the run",
);
pub static BOUNDARY_RULES: Rule = Rule::error(
    "boundary.rules",
    98,
    "the kernel programs in boundary.json are not those in the signed posture capsule",
    "one of the two was changed after the run, or the capsule is from another run",
);
pub static STATEMENT: Rule = Rule::error(
    "packet.statement",
    99,
    "two files of the packet state different values",
    "one of them was changed after the run, or the program that wrote them has a bug",
);
pub static PREDICATE: Rule = Rule::error(
    "attestation.predicate",
    100,
    "the verdict or the grade in the attestation differs from the result of this check",
    "the signer claims more or less than the packet shows",
);
pub static IDENTITY_FORM: Rule =
    Rule::error("identity.form", 101, "identity.json does not match the schema", "");
pub static IDENTITY_BOUND: Rule = Rule::error(
    "identity.bound",
    102,
    "identity.json is not the file that the posture capsule binds",
    "the file was changed after the run, or the capsule is from another run",
);
pub static IDENTITY_EXPECTED: Rule = Rule::error(
    "identity.expected",
    67,
    "the packet is not from the expected run",
    "get the packet of that run; this one may be older, or from another repository",
);
pub static IDENTITY_UNSIGNED: Rule = Rule::error(
    "identity.unsigned",
    67,
    "no pinned key signed identity.json, so it proves nothing about the run",
    "pass the boundary key with --boundary-key; --key is enough only if the receipts bind the posture capsule",
);
pub static AGE: Rule = Rule::error(
    "packet.age",
    66,
    "the packet does not prove that it was made within --max-age",
    "get the packet of the current run, and pass --boundary-key or --key, so that a time is signed",
);
pub static FUTURE: Rule = Rule::warning(
    "packet.future",
    19,
    "the time of the packet is in the future",
    "compare the clock of this machine with the clock of the machine that made the packet",
);
pub static AUDIT: Rule = Rule::error(
    "packet.audit_mode",
    69,
    "the packet is from a run with --mode audit, so nothing was enforced and there are no receipts",
    "run again without --mode audit, so that the policy is enforced and receipts are signed",
);
pub static DISPLAY: Rule = Rule::error(
    "packet.display",
    81,
    "packet.json differs from the receipts",
    "read the receipts instead",
);
pub static TIME: Rule = Rule::error(
    "packet.time",
    82,
    "a time in packet.json is impossible",
    "compare it with the times of the receipts",
);
pub static IDENTITY: Rule = Rule::error(
    "packet.identity",
    83,
    "no receipt has the agent of the packet as its actor",
    "",
);
pub static ARTIFACT: Rule = Rule::error(
    "packet.artifact",
    84,
    "packet.json names a file that the packet does not have",
    "the file was removed after the run",
);
pub static RENDERED: Rule = Rule::error(
    "packet.rendered",
    103,
    "a page for people differs from the one that egress renders from the packet",
    "the page was changed after the run; read the output of egress verify instead",
);
pub static NOT_RENDERED: Rule = Rule::warning(
    "packet.not-rendered",
    23,
    "the pages for people were written by another version and are not compared",
    "read the output of egress verify instead",
);
pub static FLOWS_FORM: Rule = Rule::error(
    "flows.form",
    110,
    "a line of the flow log does not match the schema",
    "",
);
pub static FLOWS_TORN: Rule = Rule::error(
    "flows.torn",
    111,
    "the last line of the flow log is incomplete",
    "the supervisor was killed, or the disk was full",
);
pub static FLOWS_HASH: Rule = Rule::error(
    "flows.hash",
    112,
    "the hash of a line of the flow log is wrong",
    "the file was changed after it was written",
);
pub static FLOWS_LINK: Rule = Rule::error(
    "flows.link",
    113,
    "lines of the flow log are missing, repeated, or out of order",
    "the file was changed after it was written",
);
pub static FLOWS_STOPPED: Rule = Rule::error(
    "flows.stopped",
    114,
    "the rest of the flow log was not read",
    "the findings so far are enough to reject the file",
);
}

/// Returns `packet.json` as the place of a finding.
pub(super) fn here() -> Place {
    Place::in_file(PACKET_FILE)
}
