//! What `boundary.json` says, as far as the check of a packet needs it. Its writer may say more.
use serde::Deserialize;

use crate::receipt::capsule::{KernelRule, kernel_rule_hash};
use crate::receipt::json::{MAX_DEPTH, parse_bytes};

/// The parts of `boundary.json` that are checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Measured {
    /// `enforce` or `audit`; a writer that knew no other did not say.
    #[serde(default)]
    pub mode: String,
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
}

/// Who judged and signed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Mediator {
    /// `builtin` or `pipelock`.
    #[serde(default)]
    pub kind: String,
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

    /// Probes that were not refused, in words: reached, proving nothing, or accepted as a risk.
    pub fn open_probes(&self) -> Vec<String> {
        let open = self.probes.results.iter().filter(|probe| {
            !matches!(probe.outcome.as_str(), "denied" | "not_applicable")
                || (probe.outcome == "not_applicable" && probe.detail.is_empty())
        });
        open.map(|probe| format!("{} {} ({})", probe.name, probe.outcome, probe.detail))
            .collect()
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
