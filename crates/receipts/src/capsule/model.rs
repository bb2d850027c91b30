//! A posture capsule as data.
#![expect(
    missing_docs,
    reason = "most members bear Pipelock's names, which say what they are"
)]
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A capsule. The members are Pipelock's; it refuses others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capsule {
    /// `1`.
    pub schema_version: String,
    /// When it was signed, RFC 3339 in UTC, fraction without trailing zeros.
    pub generated_at: String,
    /// Until when it holds.
    pub expires_at: String,
    /// What made it.
    pub tool_version: String,
    /// SHA-256 of the configuration in force, lowercase hex.
    pub config_hash: String,
    /// What was measured.
    pub evidence: Evidence,
    /// Ed25519 over the canonical text without this member and the next, 128 hex digits.
    pub signature: String,
    /// Public key of the signer, 64 hex digits.
    pub signer_key_id: String,
}

/// What was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What encloses the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containment: Option<Containment>,
}

/// Agents found on the machine; nobody looks for them here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// State of a Pipelock installation, which before any traffic is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyInstall {
    pub flight_recorder_active: bool,
    pub receipt_count: i64,
    pub proxying: bool,
}

/// Results of a simulation; none is made here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[serde(deny_unknown_fields)]
pub struct FlightRecorder {
    pub receipt_count: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_receipt_at: Option<String>,
    pub scanner_verdict: Option<BTreeMap<String, VerdictCount>>,
}

/// Verdicts of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictCount {
    pub allow: i64,
    pub block: i64,
    pub warn: i64,
}

/// Launch under Pipelock's own container. Here it binds `identity.json`: `env_sha256` is the digest of that file, since a
/// Pipelock refuses every member that it does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// What encloses the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Containment {
    /// The mechanism.
    pub mode: String,
    /// Whether every probe of the boundary was refused.
    pub boundary_verified: bool,
    /// Whether a probe for a way out past the mediator was refused.
    pub probe_refused_direct_egress: bool,
    /// Hash of what the kernel enforces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel_rule_hash: String,
    /// User id of the agent, decimal.
    pub target_uid: String,
}
