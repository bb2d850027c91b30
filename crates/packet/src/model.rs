//! The members of `packet.json` in version 0. Unknown members are rejected.
use std::collections::BTreeMap;

use pipelock_receipts::report::{EvidenceReport, Totals};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The only supported schema version.
pub const SCHEMA_VERSION: &str = "pipelock.audit_packet.v0";
/// `posture.enforcement_mode` of a packet of `--mode audit`, in which nothing was enforced.
pub(super) const AUDIT_ENFORCEMENT: &str = "none_audit";

/// `packet.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Packet {
    /// `pipelock.audit_packet.v0`.
    pub schema_version: String,
    /// Identifier of the packet. egress writes `egress-` and the id of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet_id: Option<String>,
    /// Time at which the packet was made, RFC 3339 in UTC.
    pub generated_at: String,
    /// The run that the packet describes.
    pub run: Run,
    /// Policies under which the receipts were signed.
    pub policy: Policy,
    /// Counts of the receipts.
    pub summary: Summary,
    /// Result of the verifier when the packet was made.
    pub verifier: Verifier,
    /// Inline copies of receipts. egress does not write this member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts: Option<Vec<Value>>,
    /// The scanners that the policy configures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scanner_config_snapshot: Option<ScannerConfig>,
    /// How the run enforced the policy.
    pub posture: Posture,
    /// The other files of the packet.
    pub artifacts: Artifacts,
}

/// The kind of machine or CI system on which a run was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// GitHub Actions.
    GithubActions,
    /// A machine outside CI.
    Local,
    /// A CI system other than GitHub Actions.
    SelfHosted,
}

/// The run that the packet describes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Kind of machine or CI system on which the run was made.
    pub provider: Provider,
    /// `owner/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Name of the workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The provider's run identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The provider's attempt counter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_attempt: Option<String>,
    /// Git ref.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// Git commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// Actor of the receipts.
    pub agent_identity: String,
    /// Time at which the command started.
    pub started_at: String,
    /// Time at which the command ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// Exit status of the command. Absent after a time-out or a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_exit_code: Option<i64>,
}

/// Policies under which the receipts were signed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Hashes of the policies, sorted and unique.
    pub policy_hashes: Vec<String>,
    /// The caller's policy file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_path: Option<String>,
    /// The file that the mediator read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_config_path: Option<String>,
    /// SHA-256 of the file that the mediator read, lowercase hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_snapshot_sha256: Option<String>,
}

/// Counts of the receipts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Number of receipts.
    pub receipt_count: u64,
    /// Receipts by verdict.
    pub totals: Totals,
    /// Receipts by transport.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transports: Option<BTreeMap<String, u64>>,
    /// Receipts of denials by layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<BTreeMap<String, u64>>,
    /// Hosts of the destinations, in ascending order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domains_touched: Option<Vec<String>>,
}

/// Returns the totals of the receipts. A receipt that was rewritten after it was signed cannot be read, so it counts as
/// `other`.
pub(super) fn totals(report: &EvidenceReport) -> Totals {
    let mut totals = report.counts.totals;
    let sum = totals
        .counts()
        .iter()
        .fold(0_u64, |sum, count| sum.saturating_add(*count));
    let unread = report.receipt_count.saturating_sub(sum);
    totals.other = totals.other.saturating_add(unread);
    totals
}

/// The verdict of the verifier when the packet was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PacketVerdict {
    /// The verifier could not run, or the evidence has no receipt.
    Error,
    /// The verifier rejected the evidence.
    Invalid,
    /// The verifier did not run.
    NotRun,
    /// The chain is valid, but no key was pinned.
    SelfConsistentOnly,
    /// The chain is valid, and its key is pinned.
    Valid,
}

impl PacketVerdict {
    /// Returns the word in the packet.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Invalid => "invalid",
            Self::NotRun => "not_run",
            Self::SelfConsistentOnly => "self_consistent_only",
            Self::Valid => "valid",
        }
    }
}

/// The result of the verifier when the packet was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Verifier {
    /// Verdict of the verifier.
    pub verdict: PacketVerdict,
    /// Whether the verdict is `valid`, which requires a pinned key.
    pub trusted: bool,
    /// Number of receipts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_count: Option<u64>,
    /// Hash of the last receipt, 64 lowercase hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_hash: Option<String>,
    /// Sequence number of the last receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_seq: Option<u64>,
    /// Key that signed the receipts. Absent unless the verdict is `valid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer_key: Option<String>,
    /// File with the output of the verifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_file: Option<String>,
    /// The first finding, if the verifier rejected the evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The scanners that the policy configures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ScannerConfig {
    /// `mode` of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Number of patterns with which data in requests is searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dlp_patterns_count: Option<u64>,
    /// Number of patterns with which data in answers is searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_patterns_count: Option<u64>,
    /// Whether private addresses are denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssrf_enabled: Option<bool>,
    /// Whether request data is redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redaction_enabled: Option<bool>,
    /// Whether receipts are recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flight_recorder_enabled: Option<bool>,
}

/// Result of the probes of raw sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words are the schema's")]
pub enum RawSocketStatus {
    Allowed,
    Denied,
    Unknown,
}

/// Result of the probe of the Docker socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words are the schema's")]
pub enum DockerSocketStatus {
    Absent,
    Allowed,
    Denied,
    Masked,
    Unknown,
}

/// Result of the probe of DNS over UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words are the schema's")]
pub enum DnsUdpStatus {
    Allowed,
    Denied,
    Proxied,
    Unknown,
}

/// Whether the boundary forces browsers through the mediator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words are the schema's")]
pub enum BrowserProxyStatus {
    Absent,
    Advisory,
    Forced,
    Unknown,
}

/// Whether and where WebSocket frames are scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words are the schema's")]
pub enum WebSocketFrameScanning {
    AlwaysOn,
    ExplicitWsProxyPathRequired,
    Off,
}

/// How the run enforced the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Posture {
    /// Mechanisms that the probes confirm: `linux`, with `_netns` and `_ebpf_cgroup` if the probes confirm them;
    /// `none_audit` in audit mode.
    pub enforcement_mode: String,
    /// Operating system of the host.
    pub runner_os: String,
    /// Architecture of the host, in GitHub's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_arch: Option<String>,
    /// Result of the probes of raw sockets.
    pub raw_socket_status: RawSocketStatus,
    /// Result of the probe of the Docker socket.
    pub docker_socket_status: DockerSocketStatus,
    /// Result of the probe of DNS over UDP.
    pub dns_udp_status: DnsUdpStatus,
    /// Whether the boundary forces browsers through the mediator.
    pub browser_proxy_status: BrowserProxyStatus,
    /// Whether and where WebSocket frames are scanned.
    pub websocket_frame_scanning: WebSocketFrameScanning,
    /// The command's network namespace, `net:[INODE]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_namespace: Option<String>,
    /// User of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_user: Option<String>,
    /// User id of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_uid: Option<i64>,
    /// User of the mediator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_user: Option<String>,
    /// User id of the mediator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_uid: Option<i64>,
    /// Address of the mediator. egress does not write this member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
    /// Address of the command. Absent in audit mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_ip: Option<String>,
    /// URL of the proxy, as the command sees it. Absent in audit mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<String>,
    /// File name of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script_basename: Option<String>,
    /// Number of the command's arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script_arg_count: Option<u64>,
    /// Traffic for which the packet proves no enforcement, and host sockets that the caller opened (`unix:PATH`).
    pub unsupported_paths: Vec<String>,
}

/// The other files of the packet, by relative path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Artifacts {
    /// `packet.json`.
    pub packet: String,
    /// The summary for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The signed receipts.
    pub evidence: String,
    /// The output of the verifier.
    pub verifier: String,
}

impl Packet {
    /// Returns the text of `packet.json`.
    ///
    /// # Errors
    /// Returns no error in practice, because the keys of all maps are strings.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}
