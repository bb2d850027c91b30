//! Reads `boundary.json` and derives facts from its members.
use pipelock_receipts::capsule::{KernelRule, kernel_rule_hash};
use pipelock_receipts::json::read_document;

use super::{BoundaryDocument, Mode, Probe, ProbeOutcome};

impl BoundaryDocument {
    /// Reads `boundary.json`.
    ///
    /// # Errors
    /// Returns a description of the first deviation, with its place.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        read_document(bytes)
    }

    /// Whether nothing was enforced.
    pub fn is_audit(&self) -> bool {
        self.mode == Mode::Audit
    }

    /// Computes the hash of the kernel programs and of the command's system call filter.
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

    /// Whether this probe was denied and its control succeeded.
    pub fn is_denied(&self, name: &str) -> bool {
        let mut results = self.probes.results.iter();
        results.any(|probe| probe.name == name && probe.is_closed() && probe.control.succeeded)
    }

    /// Describes the probes that succeeded or proved nothing, and that the caller accepted.
    pub fn accepted_probes(&self) -> Vec<String> {
        let accepted = &self.probes.accepted_risks;
        let stops = |probe: &&Probe| !probe.is_closed() && !probe.is_pointless();
        let results = self.probes.results.iter().filter(stops);
        results
            .filter(|probe| accepted.contains(&probe.name))
            .map(|probe| format!("{} {}: {}", probe.name, probe.outcome, probe.detail))
            .collect()
    }

    /// Describes the probes that do not show a closed boundary, because they reached something,
    /// proved nothing, are unknown, or were accepted as a risk.
    pub fn open_probes(&self) -> Vec<String> {
        let is_open = |probe: &&Probe| match probe.outcome {
            ProbeOutcome::Denied => !probe.control.succeeded,
            ProbeOutcome::NotApplicable => probe.detail.is_empty() || probe.control.succeeded,
            ProbeOutcome::Reachable | ProbeOutcome::ControlFailed | ProbeOutcome::Unknown(_) => {
                true
            }
        };
        let in_words = |probe: &Probe| match probe.outcome {
            ProbeOutcome::Denied => format!(
                "{} proves nothing, because its control failed ({})",
                probe.name, probe.control.detail
            ),
            ProbeOutcome::Reachable
            | ProbeOutcome::NotApplicable
            | ProbeOutcome::ControlFailed
            | ProbeOutcome::Unknown(_) => {
                format!("{} {} ({})", probe.name, probe.outcome, probe.detail)
            }
        };
        let results = self.probes.results.iter().filter(is_open);
        results.map(in_words).collect()
    }
}

impl Probe {
    fn is_closed(&self) -> bool {
        self.outcome == ProbeOutcome::Denied
    }

    fn is_pointless(&self) -> bool {
        self.outcome == ProbeOutcome::NotApplicable
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Control, Probes};
    use super::*;

    #[test]
    fn every_probe_that_was_not_refused_is_open() {
        let probe = |name: &str, outcome: &str, detail: &str| Probe {
            name: name.into(),
            outcome: outcome.into(),
            detail: detail.into(),
            control: Control {
                succeeded: outcome == "denied",
                ..Control::default()
            },
        };
        let boundary_document = BoundaryDocument {
            probes: Probes {
                results: vec![
                    probe("udp", "denied", "EPERM"),
                    probe("packet_socket", "not_applicable", "no such family"),
                    probe("route", "not_applicable", ""),
                    probe("raw_socket_ipv4", "reachable", "a packet left"),
                    probe("dns_udp", "control_failed", "no answer outside"),
                    probe("docker_socket", "reachable", "connected"),
                    probe("new_one", "", ""),
                    Probe {
                        control: Control {
                            detail: "no route".into(),
                            ..Control::default()
                        },
                        ..probe("udp_ipv6", "denied", "EPERM")
                    },
                ],
                // An accepted risk still lowers the grade.
                accepted_risks: vec!["docker_socket".into()],
                ..Probes::default()
            },
            ..BoundaryDocument::default()
        };
        assert_eq!(
            boundary_document.open_probes(),
            [
                "route not_applicable ()",
                "raw_socket_ipv4 reachable (a packet left)",
                "dns_udp control_failed (no answer outside)",
                "docker_socket reachable (connected)",
                "new_one  ()",
                "udp_ipv6 proves nothing, because its control failed (no route)",
            ]
        );
    }
}
