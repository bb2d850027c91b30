//! The members of a posture capsule.
#![expect(
    missing_docs,
    reason = "most members have Pipelock's names, which describe them"
)]
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A posture capsule. Pipelock rejects a capsule with an unknown member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Capsule {
    /// `1`.
    pub schema_version: String,
    /// Time of the signature, RFC 3339 in UTC, fraction without trailing zeros.
    pub generated_at: String,
    /// Time until which the capsule is valid.
    pub expires_at: String,
    /// Name and version of the program that made the capsule.
    pub tool_version: String,
    /// SHA-256 of the configuration in force, lowercase hex.
    pub config_hash: String,
    /// The measurements that the capsule states.
    pub evidence: Evidence,
    /// Ed25519 over the canonical text without `signature` and `signer_key_id`, 128 hex digits.
    pub signature: String,
    /// Public key of the signer, 64 hex digits.
    pub signer_key_id: String,
}

/// The measurements of a capsule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Agents found on the machine.
    pub discover: Discover,
    /// State of a Pipelock installation.
    pub verify_install: VerifyInstall,
    /// Results of a simulation.
    pub simulate: Simulate,
    /// Receipts before this run.
    pub flight_recorder: FlightRecorder,
    /// Launch under Pipelock's own container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contain_launch: Option<ContainLaunch>,
    /// The boundary around the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containment: Option<Containment>,
}

/// Agents found on the machine. egress does not search for agents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Discover {
    pub total_clients: i64,
    pub total_servers: i64,
    pub protected_pipelock: i64,
    pub protected_other: i64,
    pub unprotected: i64,
    pub unknown: i64,
    pub high_risk: i64,
    pub parse_errors: i64,
}

/// State of a Pipelock installation. egress makes the capsule before any traffic and leaves this
/// object empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VerifyInstall {
    pub flight_recorder_active: bool,
    pub receipt_count: i64,
    pub proxying: bool,
}

/// Results of a simulation. egress does not run a simulation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Simulate {
    pub total: i64,
    pub passed: i64,
    pub failed: i64,
    pub known_limitations: i64,
    pub percentage: i64,
    pub grade: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub config_file: String,
    pub mode: String,
    pub scenarios: Option<Vec<Scenario>>,
}

/// One scenario of a simulation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    pub category: String,
    pub detected: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limitation: bool,
}

/// Receipts before this run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FlightRecorder {
    pub receipt_count: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_receipt_at: Option<String>,
    pub scanner_verdict: Option<BTreeMap<String, VerdictCount>>,
}

/// Verdicts of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VerdictCount {
    pub allow: i64,
    pub block: i64,
    pub warn: i64,
}

/// Launch under Pipelock's own container. egress stores the digest of `identity.json` in `env_sha256`, because Pipelock
/// rejects a capsule with unknown members.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ContainLaunch {
    pub launcher: String,
    pub agent_user: String,
    pub target_uid: String,
    pub target_gid: String,
    pub target_groups: Option<Vec<String>>,
    pub tool: String,
    pub argc: i64,
    pub argv_sha256: String,
    pub cwd: String,
    pub proxy_port: i64,
    pub env_vars: Option<Vec<String>>,
    pub env_sha256: String,
}

/// The boundary around the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Containment {
    /// The mechanism of the boundary.
    pub mode: String,
    /// Whether every probe of the boundary was denied or not applicable.
    pub boundary_verified: bool,
    /// Whether the probes `interface_other_than_lo` and `route` were denied.
    pub probe_refused_direct_egress: bool,
    /// Hash of the kernel programs and of the system call filter.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel_rule_hash: String,
    /// User id of the command, decimal.
    pub target_uid: String,
}
