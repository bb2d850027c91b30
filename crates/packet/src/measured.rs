//! What `boundary.json` says, as far as the check of a packet needs it. Its writer may say more.
use std::collections::BTreeMap;

use pipelock_receipts::capsule::{KernelRule, kernel_rule_hash};
use pipelock_receipts::json::{MAX_DEPTH, parse_bytes};
use serde::{Deserialize, Serialize};

use super::denied::Denied;

/// Destinations that `boundary.json` lists; the others are counted.
pub const LISTED: usize = 500;

/// The parts of `boundary.json` that are checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Measured {
    /// Id of the run.
    #[serde(default)]
    pub run_id: String,
    /// `enforce` or `audit`; a writer that knew no other did not say.
    #[serde(default)]
    pub mode: String,
    /// Who the command ran as.
    #[serde(default)]
    pub agent: Agent,
    /// User ids by account.
    #[serde(default)]
    pub users: BTreeMap<String, u64>,
    /// The namespaces of the command.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Ports that the relay asks the mediator for.
    #[serde(default)]
    pub allowed_ports: Vec<u16>,
    /// When each step was reached.
    #[serde(default)]
    pub timeline: Vec<Mark>,
    /// What the command might take.
    #[serde(default)]
    pub limits: Limits,
    /// The policy that the mediator read.
    #[serde(default)]
    pub policy: Policy,
    /// How the command saw the workspace.
    #[serde(default)]
    pub workspace: Workspace,
    /// Sockets of the host that the caller opened.
    #[serde(default)]
    pub allowed_unix: Vec<OpenedSocket>,
    /// The kernel's counters.
    #[serde(default)]
    pub counters: Counters,
    /// The program that ran the command.
    #[serde(default)]
    pub egress: Tool,
    /// The kernel of the machine.
    #[serde(default)]
    pub kernel: Kernel,
    /// Kernel programs.
    pub programs: Programs,
    /// System call filters.
    pub seccomp: Seccomp,
    /// Attempts to break out before the start.
    pub probes: Probes,
    /// The flow log.
    pub flows: Flows,
    /// Who judged and signed.
    #[serde(default)]
    pub mediator: Mediator,
    /// The authority with which a Pipelock opens TLS; absent when it opens none.
    #[serde(default)]
    pub tls_interception: Option<serde_json::Value>,
    /// Why the record is not complete.
    pub incomplete: Vec<String>,
    /// What was denied, most frequent first.
    #[serde(default)]
    pub denied: Vec<DeniedRow>,
    /// Rows of `denied` beyond those that are listed.
    #[serde(default)]
    pub denied_left_out: u64,
    /// Answers that look like a denial and that no receipt confirms, most frequent first.
    #[serde(default)]
    pub answered: Vec<DeniedRow>,
    /// Rows of `answered` beyond those that are listed.
    #[serde(default)]
    pub answered_left_out: u64,
    /// Connections that went through, most frequent first.
    #[serde(default)]
    pub allowed: Vec<AllowedRow>,
    /// Rows of `allowed` beyond those that are listed.
    #[serde(default)]
    pub allowed_left_out: u64,
    /// What went through the channels that are open on purpose.
    #[serde(default)]
    pub residual_channels: serde_json::Value,
    /// What people should know of the run beyond its verdict.
    #[serde(default)]
    pub notices: Vec<String>,
    /// The key that signs the attestation.
    #[serde(default)]
    pub attestation: AttestationKey,
    /// Name of the packet's directory when it was written.
    #[serde(default)]
    pub packet_directory: String,
}

/// Attempts that were denied alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedRow {
    /// How many.
    pub count: u64,
    /// What each of them was.
    pub attempt: Denied,
}

/// Connections to one destination that went through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedRow {
    /// Host name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How many.
    pub count: u64,
}

/// The key that signs the attestation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttestationKey {
    /// Its public half, 64 lowercase hex digits.
    pub key: String,
    /// Whether the caller supplied it; otherwise it was made for the run, and nobody can pin it.
    pub pinned: bool,
}

/// Who judged and signed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Mediator {
    /// `builtin` or `pipelock`.
    #[serde(default)]
    pub kind: String,
    /// How a Pipelock is asked for plain HTTP: `scan` or `tunnel`.
    #[serde(default)]
    pub plain_http: String,
    /// What is known of a Pipelock.
    #[serde(default)]
    pub pipelock: Option<Pipelock>,
}

/// What is known of a Pipelock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Pipelock {
    /// Whether it redacts secrets in its evidence.
    #[serde(default)]
    pub redact: bool,
    /// `bound` if its receipts sign the posture capsule, `not_known` if it is too old for that.
    #[serde(default)]
    pub posture: Option<String>,
}

/// Who the command ran as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Agent {
    /// Its name.
    pub user: String,
    /// Its user id.
    pub uid: u64,
    /// What its first process had given up.
    pub enforced: Enforced,
}

/// What a process had given up, as `/proc/PID/status` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Enforced {
    /// Its user id.
    pub uid: u64,
    /// Capabilities that it could have, as a bit mask.
    pub capabilities: u64,
    /// `no_new_privs`.
    pub no_new_privs: bool,
    /// `Seccomp`: 2 for a filter.
    pub seccomp_mode: u64,
    /// `Seccomp_filters`.
    pub seccomp_filters: u64,
}

/// The policy that the mediator read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// The caller's policy file.
    pub config: Option<String>,
    /// SHA-256 of `policy.yaml`, lowercase hex.
    pub sha256: String,
}

/// How the command saw the workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Workspace {
    /// `apply`, `copy`, `direct`, …
    pub mode: String,
    /// Changes by what became of them; absent where none were kept apart.
    pub changes: Option<BTreeMap<String, u64>>,
}

/// One step that was reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Mark {
    /// Which.
    pub step: String,
    /// When, microseconds since the run began.
    pub at_us: u64,
}

/// What the command might take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Time.
    pub seconds: Seconds,
}

/// How long the command might take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Seconds {
    /// Whether that ended it.
    pub reached: bool,
}

/// A socket of the host that the caller opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct OpenedSocket {
    /// Its path.
    pub path: String,
}

/// The kernel's counters at the end of the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Denials because a program could not read or store what it needs.
    pub internal: u64,
    /// Packets stopped on their way to another interface than loopback.
    pub skb_dropped: u64,
    /// Events that found the ring buffer full.
    pub ring_full: u64,
    /// Denials by the relay's own gates.
    pub relay_denied: u64,
    /// Destinations that the gates on the mediator's own sockets denied.
    pub mediator_denied: u64,
    /// Connections of the command whose close a program was to report.
    pub closes_expected: u64,
    /// Those whose close it saw.
    pub closes_seen: u64,
}

/// The program that ran the command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Tool {
    /// Its version.
    pub version: String,
    /// SHA-256 of its binary, lowercase hex.
    pub binary_sha256: String,
}

/// The kernel of the machine, in the words of uname(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Kernel {
    /// Release.
    pub release: String,
    /// Hardware.
    pub machine: String,
}

/// Kernel programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Programs {
    /// The programs.
    pub attached: Vec<Program>,
    /// Where they were attached.
    pub links: Vec<Link>,
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Program {
    /// Name in the object.
    pub name: String,
    /// Id that the kernel gave it.
    pub id: u32,
    /// Digest of its instructions.
    pub tag: String,
    /// Number of the hook.
    pub attach_type: u32,
}

/// Where a program was attached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Link {
    /// Id of the link.
    pub id: u32,
    /// Id of its program.
    pub program_id: u32,
    /// Number of the hook.
    #[serde(default)]
    pub attach_type: u32,
    /// Id of the cgroup; 0 when it was taken off.
    #[serde(default)]
    pub cgroup_id: u64,
}

/// System call filters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Seccomp {
    /// Digest of the agent's.
    pub agent_sha256: String,
}

/// Attempts to break out before the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Probes {
    /// One for each.
    pub results: Vec<Probe>,
    /// How many there are of each outcome.
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
    /// Holes that the caller accepted.
    #[serde(default)]
    pub accepted_risks: Vec<String>,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Probe {
    /// Which.
    pub name: String,
    /// `denied`, `not_applicable`, …
    pub outcome: String,
    /// What was met.
    pub detail: String,
    /// The same attempt, made outside.
    #[serde(default)]
    pub control: Control,
}

/// An attempt made outside the boundary.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Control {
    /// Whether it succeeded there.
    pub succeeded: bool,
}

/// The flow log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Flows {
    /// SHA-256 of the file.
    pub sha256: String,
    /// Hash of its last row.
    pub head: String,
    /// Its rows.
    pub rows: u64,
    /// Attempts by the kernel's verdict.
    #[serde(default)]
    pub by_verdict: BTreeMap<String, u64>,
    /// Names that were asked for.
    #[serde(default)]
    pub names: u64,
    /// Rows of the relay by verdict.
    #[serde(default)]
    pub by_relay_verdict: BTreeMap<String, u64>,
}

impl Measured {
    /// Reads `boundary.json`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        parse_bytes(bytes, MAX_DEPTH).map_err(|error| error.to_string())?;
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// The hash of what the kernel enforced, computed from the parts.
    pub fn kernel_rule_hash(&self) -> String {
        let programs = self.programs.attached.iter();
        let rules: Vec<KernelRule<'_>> = programs
            .map(|program| KernelRule {
                name: &program.name,
                attach_type: program.attach_type,
                tag: &program.tag,
            })
            .collect();
        kernel_rule_hash(&rules, &self.seccomp.agent_sha256)
    }

    /// Whether this probe was made, and denied while the same attempt succeeded outside.
    pub fn is_denied(&self, name: &str) -> bool {
        self.probes
            .results
            .iter()
            .any(|probe| probe.name == name && probe.outcome == "denied" && probe.control.succeeded)
    }

    /// Probes that failed or proved nothing, and that the caller accepted by name, in words.
    pub fn accepted_probes(&self) -> Vec<String> {
        let accepted = &self.probes.accepted_risks;
        let stops = |probe: &&Probe| !matches!(probe.outcome.as_str(), "denied" | "not_applicable");
        let results = self.probes.results.iter().filter(stops);
        results
            .filter(|probe| accepted.contains(&probe.name))
            .map(|probe| format!("{} {}: {}", probe.name, probe.outcome, probe.detail))
            .collect()
    }

    /// Probes that do not show the boundary closed, in words: missing, reached, proving nothing, or accepted as a risk.
    pub fn open_probes(&self) -> Vec<String> {
        let results = &self.probes.results;
        let is_open = |probe: &&Probe| match probe.outcome.as_str() {
            "denied" => !probe.control.succeeded,
            "not_applicable" => probe.detail.is_empty() || probe.control.succeeded,
            _ => true,
        };
        let in_words =
            |probe: &Probe| format!("{} {} ({})", probe.name, probe.outcome, probe.detail);
        results.iter().filter(is_open).map(in_words).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_that_was_not_refused_is_open() {
        let probe = |name: &str, outcome: &str, detail: &str| Probe {
            name: name.to_owned(),
            outcome: outcome.to_owned(),
            detail: detail.to_owned(),
            control: Control {
                succeeded: outcome == "denied",
            },
        };
        let measured = Measured {
            probes: Probes {
                results: vec![
                    probe("udp", "denied", "EPERM"),
                    probe("packet_socket", "not_applicable", "no such family"),
                    probe("route", "not_applicable", ""),
                    probe("raw_socket_ipv4", "reachable", "a packet left"),
                    probe("dns_udp", "control_failed", "no answer outside"),
                    probe("docker_socket", "reachable", "connected"),
                    probe("new_one", "", ""),
                ],
                counts: BTreeMap::new(),
                // Who accepts a hole has it all the same.
                accepted_risks: vec![String::from("docker_socket")],
            },
            ..Measured::default()
        };
        assert_eq!(
            measured.open_probes(),
            [
                "route not_applicable ()",
                "raw_socket_ipv4 reachable (a packet left)",
                "dns_udp control_failed (no answer outside)",
                "docker_socket reachable (connected)",
                "new_one  ()",
            ]
        );
    }
}
