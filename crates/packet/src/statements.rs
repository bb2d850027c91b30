//! Compares statements that more than one file of a packet makes.
//!
//! A difference is an error, because one of the files is wrong, and a verifier cannot decide which one. A statement
//! that does not describe an enforced boundary caps the grade.
use std::collections::BTreeSet;

use egress_policy::allowed::Allowed;
use pipelock_receipts::capsule::{Capsule, CapsuleReport};
use pipelock_receipts::findings::{Findings, Place};
use pipelock_receipts::json::{MAX_DEPTH, parse_bytes};
use sha2::{Digest, Sha256};

use super::attest::Predicate;
use super::changes_file::ReadChanges;
use super::counted::Counted;
use super::format::boundary::{BoundaryDocument, Probe, ProbeCounts, ProbeOutcome};
use super::format::deviations;
use super::grade::{Caps, Grade};
use super::identity::{self, Identity};
use super::joined::RunTimes;
use super::model::Packet;
use super::names::{ATTESTATION_FILE, BOUNDARY_FILE, IDENTITY_FILE, PACKET_FILE, POLICY_FILE};
use super::posture::{Facts, Words};
use super::reconcile::Reconciliation;
use super::{as_stated, repeated, required, rules};

mod changes;
mod measured;
mod pipelock;
mod run;

/// Value of `PR_GET_SECCOMP` for a process with a filter.
const SECCOMP_FILTER: u64 = 2;

#[derive(Debug, Clone, Copy)]
pub(super) struct Statements<'a> {
    pub(super) packet: Option<&'a Packet>,
    pub(super) boundary_document: &'a BoundaryDocument,
    pub(super) boundary: Option<&'a [u8]>,
    pub(super) counted: &'a Counted,
    /// Number of connections in the rows of the relay.
    pub(super) connections: u64,
    pub(super) times: RunTimes,
    /// Whether there is an archive of the changes that were not applied. `None` without an attestation.
    pub(super) has_archive: Option<bool>,
    /// The first difference between the archive and the changes.
    pub(super) archive: Option<&'a str>,
    pub(super) capsule: Option<&'a CapsuleReport>,
    pub(super) predicate: Option<&'a Predicate>,
    pub(super) identity: Option<&'a [u8]>,
    pub(super) policy: Option<&'a [u8]>,
    /// The hosts that the policy allows.
    pub(super) allowed: &'a Allowed,
    pub(super) changes: Option<&'a ReadChanges>,
    pub(super) reconciliation: Option<&'a Reconciliation>,
}

impl<'a> Statements<'a> {
    pub(super) fn check(self, findings: &mut Findings, caps: &mut Caps) {
        self.form(caps);
        self.counted
            .check(self.boundary_document, self.connections, findings, caps);
        self.repeated(findings);
        self.times(findings);
        self.steps(caps);
        self.course(caps);
        self.measured(findings, caps);
        self.tool(findings);
        self.links(findings, caps);
        self.agent(findings, caps);
        self.probes(findings, caps);
        self.programs(caps);
        self.policy(findings);
        if let Some(facts) = self.boundary_document.mediator.pipelock() {
            let is_bound = self.capsule.map(|report| report.is_bound);
            self.pipelock(facts, is_bound, findings, caps);
        }
        self.changes(findings, caps);
        self.run_ids(findings);
        self.identity(findings);
        self.flows(findings);
        self.posture(findings);
    }

    fn capsule(self) -> Option<&'a Capsule> {
        self.capsule.and_then(|report| report.capsule.as_ref())
    }

    /// Checks that `boundary.json` matches the schema of this version.
    fn form(self, caps: &mut Caps) {
        let found = |bytes| {
            parse_bytes(bytes, MAX_DEPTH).map_or_else(
                |error| vec![error.to_string()],
                |node| deviations(self.boundary_document, &node, &[]),
            )
        };
        deviates(BOUNDARY_FILE, self.boundary.map(found), caps);
    }

    /// Checks that members of `packet.json` agree with the other files that state the same values.
    fn repeated(self, findings: &mut Findings) {
        let Some(packet) = self.packet else {
            return;
        };
        let identity = self.identity.and_then(|bytes| Identity::read(bytes).ok());
        let different = repeated::differences(
            packet,
            self.boundary_document,
            self.capsule(),
            identity.as_ref(),
            self.allowed.mode(),
        );
        for (member, stated, expected) in different {
            let text = |value: Option<String>| value.unwrap_or_else(|| String::from("absent"));
            let expected = format!("{member} {}", text(expected));
            differs(findings, PACKET_FILE, &expected, &text(stated));
        }
    }

    /// Checks that the command was not root, could not become root, and had a system call filter.
    fn agent(self, findings: &mut Findings, caps: &mut Caps) {
        let agent = &self.boundary_document.agent;
        let enforced = &agent.enforced;
        let mut same = |name: &str, other: Option<String>| {
            let uid = agent.uid.to_string();
            if let Some(other) = other
                && other != uid
            {
                let expected = format!("agent.uid {uid} of {BOUNDARY_FILE}");
                differs(findings, PACKET_FILE, &expected, &format!("{name} {other}"));
            }
        };
        same("agent.enforced.uid", Some(enforced.uid.to_string()));
        let stated = self.packet.and_then(|packet| packet.posture.agent_uid);
        same("posture.agent_uid", stated.map(|uid| uid.to_string()));
        let evidence = self.capsule().map(|capsule| &capsule.evidence);
        let launch = evidence.and_then(|evidence| evidence.contain_launch.as_ref());
        same(
            "contain_launch.target_uid",
            launch.map(|launch| launch.target_uid.clone()),
        );
        let containment = evidence.and_then(|evidence| evidence.containment.as_ref());
        same(
            "containment.target_uid",
            containment.map(|containment| containment.target_uid.clone()),
        );
        for (holds, what) in [
            (enforced.uid != 0, "the command ran as root"),
            (enforced.capabilities == 0, "the command had capabilities"),
            (enforced.no_new_privs, "the command could gain privileges"),
            (
                enforced.seccomp_mode == SECCOMP_FILTER && enforced.seccomp_filters > 0,
                "the command had no system call filter",
            ),
        ] {
            caps.unless(holds, Grade::KernelObserved, what);
        }
    }

    /// Checks that every probe of this version was run, and that the counts match the results.
    fn probes(self, findings: &mut Findings, caps: &mut Caps) {
        let probes = &self.boundary_document.probes;
        let made: BTreeSet<&str> = probes
            .results
            .iter()
            .map(|probe| probe.name.as_str())
            .collect();
        let missing = required::PROBES
            .iter()
            .filter(|name| !made.contains(*name))
            .count();
        caps.unless(
            missing == 0,
            Grade::KernelObserved,
            &format!(
                "{missing} of {} probes were not run",
                required::PROBES.len()
            ),
        );
        for one in &probes.results {
            let name = one.name.as_str();
            if !required::PROBES.contains(&name) {
                caps.cap(
                    Grade::KernelObserved,
                    format!("the probe {name} does not exist"),
                );
            }
            let applies = required::applies(self.boundary_document, name);
            if applies && one.outcome == ProbeOutcome::NotApplicable {
                caps.cap(
                    Grade::KernelObserved,
                    format!("the probe {name} is stated as not applicable, although it applies"),
                );
            }
        }
        if made.len() != probes.results.len() {
            differs(findings, BOUNDARY_FILE, "each probe once", "a probe twice");
        }
        let of = |outcome: ProbeOutcome| {
            let same = probes.results.iter().filter(|one| one.outcome == outcome);
            u64::try_from(same.count()).unwrap_or(u64::MAX)
        };
        let counted = ProbeCounts {
            denied: of(ProbeOutcome::Denied),
            reachable: of(ProbeOutcome::Reachable),
            not_applicable: of(ProbeOutcome::NotApplicable),
            control_failed: of(ProbeOutcome::ControlFailed),
        };
        let is_known = |one: &Probe| !matches!(one.outcome, ProbeOutcome::Unknown(_));
        if probes.counts != counted || !probes.results.iter().all(is_known) {
            let expected = format!("probes.counts {}", as_stated(&counted));
            let stated = as_stated(&probes.counts);
            differs(findings, BOUNDARY_FILE, &expected, &stated);
        }
        for risk in &probes.accepted_risks {
            caps.cap(
                Grade::KernelObserved,
                format!("the caller accepted the risk {risk}"),
            );
        }
    }

    fn programs(self, caps: &mut Caps) {
        let attached = &self.boundary_document.programs.attached;
        for name in required::PROGRAMS {
            if !attached.iter().any(|program| program.name == name) {
                caps.cap(
                    Grade::KernelObserved,
                    format!("the kernel program {name} is missing"),
                );
            }
        }
        let counters = &self.boundary_document.counters;
        for (count, what) in [
            (
                counters.internal,
                "denials because a kernel program could not decide",
            ),
            (
                counters.skb_dropped,
                "network packets that only the last kernel program stopped",
            ),
        ] {
            if count > 0 {
                caps.cap(Grade::KernelObserved, format!("{count} {what}"));
            }
        }
    }

    /// Checks that `policy.yaml` is the file whose digest is in the capsule. The mediator's first
    /// receipt signs the capsule.
    fn policy(self, findings: &mut Findings) {
        let Some(policy) = self.policy else {
            differs(
                findings,
                POLICY_FILE,
                "the policy of the run",
                "no such file",
            );
            return;
        };
        let actual = hex::encode(Sha256::digest(policy));
        let stated = [
            self.capsule().map(|capsule| {
                (
                    "config_hash of the posture capsule",
                    capsule.config_hash.as_str(),
                )
            }),
            Some((
                "policy.sha256 of boundary.json",
                self.boundary_document.policy.sha256.as_str(),
            )),
        ];
        for (name, stated) in stated.into_iter().flatten() {
            if stated != actual {
                differs(findings, POLICY_FILE, &format!("{name}, {stated}"), &actual);
            }
        }
    }

    /// Checks that `identity.json` is the file that the capsule binds.
    fn identity(self, findings: &mut Findings) {
        let place = || Place::in_file(IDENTITY_FILE);
        let launch = self
            .capsule()
            .and_then(|capsule| capsule.evidence.contain_launch.as_ref());
        let bound = launch.map(|launch| launch.env_sha256.as_str());
        let Some(bytes) = self.identity else {
            if let Some(bound) = bound {
                findings.add(&rules::IDENTITY_BOUND, place(), bound, "no such file");
            }
            return;
        };
        let actual = identity::digest(bytes);
        if bound != Some(actual.as_str()) {
            let expected = bound.unwrap_or("a capsule that binds it");
            findings.add(&rules::IDENTITY_BOUND, place(), expected, actual);
        }
        if let Err(error) = Identity::read(bytes) {
            findings.add(&rules::IDENTITY_FORM, place(), identity::SCHEMA, error);
        }
    }

    fn run_ids(self, findings: &mut Findings) {
        let run_id = self.boundary_document.run_id.as_str();
        if let Some(predicate) = self.predicate
            && predicate.run_id != run_id
        {
            let expected = format!("run_id {run_id}");
            differs(findings, ATTESTATION_FILE, &expected, &predicate.run_id);
        }
    }

    /// Checks that the counts in `boundary.json` are the counts of the rows.
    fn flows(self, findings: &mut Findings) {
        let Some(both) = self.reconciliation else {
            return;
        };
        // Rows that could not be written are still counted. In that case, `incomplete` has a
        // reason.
        let is_complete = self.boundary_document.incomplete.is_empty();
        let stated = &self.boundary_document.flows.by_relay_verdict;
        if is_complete && *stated != both.relay {
            let expected = format!("by_relay_verdict {}", as_stated(&both.relay));
            differs(findings, BOUNDARY_FILE, &expected, &as_stated(stated));
        }
    }

    /// Checks that the words of `packet.json` follow from the probes.
    fn posture(self, findings: &mut Findings) {
        let Some(packet) = self.packet else {
            return;
        };
        let boundary_document = self.boundary_document;
        let facts = Facts {
            is_audit: boundary_document.is_audit(),
            is_builtin: boundary_document.mediator.is_builtin(),
            tunnels_plain_http: boundary_document.mediator.tunnels_plain_http(),
            opened: boundary_document
                .allowed_unix
                .iter()
                .map(|one| one.path.to_string())
                .collect(),
        };
        let words = Words::of(|name| boundary_document.is_denied(name), &facts);
        for (member, stated, derived) in words.differences(&packet.posture) {
            differs(
                findings,
                PACKET_FILE,
                &format!("{member} {derived}"),
                &stated,
            );
        }
    }
}

/// Caps the grade if a document does not match the schema of this version.
fn deviates(file: &str, deviations: Option<Vec<String>>, caps: &mut Caps) {
    for deviation in deviations.unwrap_or_default() {
        let reason = format!("{file} does not match the schema: {deviation}");
        caps.cap(Grade::KernelObserved, reason);
    }
}

fn differs(findings: &mut Findings, file: &str, expected: &str, found: &str) {
    let place = Place::in_file(file);
    findings.add(&rules::STATEMENT, place, expected, found);
}
