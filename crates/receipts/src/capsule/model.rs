//! The members of a posture capsule.
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
    /// Number of agents. egress writes 0 for each number here.
    pub total_clients: i64,
    /// Number of MCP servers.
    pub total_servers: i64,
    /// Number of servers behind Pipelock.
    pub protected_pipelock: i64,
    /// Number of servers behind another proxy.
    pub protected_other: i64,
    /// Number of servers without a proxy.
    pub unprotected: i64,
    /// Number of servers whose protection is unknown.
    pub unknown: i64,
    /// Number of servers with a high risk.
    pub high_risk: i64,
    /// Number of configurations that could not be parsed.
    pub parse_errors: i64,
}

/// State of a Pipelock installation. egress makes the capsule before any traffic and leaves this
/// object empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VerifyInstall {
    /// Whether Pipelock records its decisions. egress writes `false`.
    pub flight_recorder_active: bool,
    /// Number of receipts. egress writes 0.
    pub receipt_count: i64,
    /// Whether Pipelock proxies traffic. egress writes `false`.
    pub proxying: bool,
}

/// Results of a simulation. egress does not run a simulation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Simulate {
    /// Number of scenarios. egress writes 0 for each number here.
    pub total: i64,
    /// Number of scenarios that passed.
    pub passed: i64,
    /// Number of scenarios that failed.
    pub failed: i64,
    /// Number of scenarios with a known limitation.
    pub known_limitations: i64,
    /// Percentage of the scenarios that passed.
    pub percentage: i64,
    /// Grade of the simulation. egress writes an empty text.
    pub grade: String,
    /// Configuration of the simulation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub config_file: String,
    /// Mode of the configuration. egress writes an empty text.
    pub mode: String,
    /// The scenarios. egress writes `null`.
    pub scenarios: Option<Vec<Scenario>>,
}

/// One scenario of a simulation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name of the scenario.
    pub name: String,
    /// Kind of the scenario.
    pub category: String,
    /// Whether Pipelock detected the attack.
    pub detected: bool,
    /// Details for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Whether this is a known limitation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limitation: bool,
}

/// Receipts before this run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FlightRecorder {
    /// Number of receipts. egress writes 0.
    pub receipt_count: i64,
    /// Time of the last receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_receipt_at: Option<String>,
    /// Verdicts by layer. egress writes `null`.
    pub scanner_verdict: Option<BTreeMap<String, VerdictCount>>,
}

/// Verdicts of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VerdictCount {
    /// Number of verdicts `allow`.
    pub allow: i64,
    /// Number of verdicts `block`.
    pub block: i64,
    /// Number of verdicts `warn`.
    pub warn: i64,
}

/// Launch under Pipelock's own container. egress stores the digest of `identity.json` in `env_sha256`, because Pipelock
/// rejects a capsule with unknown members.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ContainLaunch {
    /// The program that started the command: `egress`.
    pub launcher: String,
    /// Name of the command's user: `pipelock-agent`.
    pub agent_user: String,
    /// User id of the command, decimal.
    pub target_uid: String,
    /// Group id of the command. egress writes an empty text.
    pub target_gid: String,
    /// Further groups of the command. egress writes `null`.
    pub target_groups: Option<Vec<String>>,
    /// Name of the started agent. egress writes an empty text.
    pub tool: String,
    /// Number of the command's arguments. egress writes 0.
    pub argc: i64,
    /// SHA-256 of the command's arguments. egress writes an empty text.
    pub argv_sha256: String,
    /// Working directory of the command. egress writes an empty text.
    pub cwd: String,
    /// Port of the explicit proxy inside the boundary.
    pub proxy_port: i64,
    /// Name of the file whose digest is in `env_sha256`: `identity.json`.
    pub env_vars: Option<Vec<String>>,
    /// SHA-256 of `identity.json`, lowercase hex.
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
