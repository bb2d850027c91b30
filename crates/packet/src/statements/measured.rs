//! Compares statements of `boundary.json` with each other, with the policy, and with the rows of the flow log.
use std::collections::BTreeSet;

use pipelock_receipts::findings::Findings;

use super::super::grade::{Caps, Grade};
use super::super::names::{BOUNDARY_FILE, POLICY_FILE};
use super::super::required;
use super::{Statements, differs};

#[cfg(test)]
mod tests;

/// The kernel assigns lower numbers to the namespaces that exist from the start of the machine.
const FIRST_NAMESPACE: u64 = 4_026_531_842;
/// The smallest limit on a size that egress accepts, in bytes.
const SMALLEST_SIZE: u64 = 64 << 10;
/// The supervisor ends the command at most this much later than its time limit, µs. The supervisor gives the command 5
/// s to end by itself, and a busy machine may need longer.
const ENDED_WITHIN: u64 = 60_000_000;
const SECOND_US: u64 = 1_000_000;

impl Statements<'_> {
    pub(super) fn measured(self, findings: &mut Findings, caps: &mut Caps) {
        self.users(caps);
        self.namespaces(caps);
        self.unavailable(caps);
        self.interception(findings);
        self.limits(caps);
    }

    /// Checks that the command, the mediator, and the relay had the three user ids of one lease. Root has the id 0.
    fn users(self, caps: &mut Caps) {
        let users = &self.boundary_document.users;
        let is_next = |one: u64, next: u64| one.checked_add(1) == Some(next);
        let is_leased = users.agent != 0
            && is_next(users.agent, users.host)
            && is_next(users.host, users.relay);
        caps.unless(
            is_leased,
            Grade::KernelObserved,
            "the command, the mediator, and the relay did not have the users of one run",
        );
    }

    /// Checks that the command had a new namespace of each kind.
    fn namespaces(self, caps: &mut Caps) {
        let stated = &self.boundary_document.namespaces;
        let parsed: Vec<(&str, u64)> = stated
            .iter()
            .filter_map(|namespace| {
                let (kind, id) = namespace.split_once(":[")?;
                Some((kind, id.strip_suffix(']')?.parse().ok()?))
            })
            .collect();
        let kinds = parsed.iter().map(|(kind, _)| *kind);
        let is_whole = parsed.len() == stated.len() && kinds.eq(required::NAMESPACES);
        caps.unless(
            is_whole,
            Grade::KernelObserved,
            "the command did not have namespaces of all kinds",
        );
        let ids: BTreeSet<u64> = parsed.iter().map(|(_, id)| *id).collect();
        let are_new = ids.len() == parsed.len() && ids.iter().all(|id| *id >= FIRST_NAMESPACE);
        caps.unless(
            are_new,
            Grade::KernelObserved,
            "the command had a namespace of the host, or two of its namespaces have one number",
        );
    }

    /// Checks that only kernel programs that some kernels lack, and that are not attached, are stated as unavailable.
    fn unavailable(self, caps: &mut Caps) {
        let programs = &self.boundary_document.programs;
        for program in &programs.unavailable {
            let name = program.name.as_str();
            let is_attached = programs.attached.iter().any(|one| one.name == program.name);
            if is_attached || !required::OPTIONAL_PROGRAMS.contains(&name) {
                caps.cap(
                    Grade::KernelObserved,
                    format!("the kernel program {name} is stated as unavailable"),
                );
            }
        }
    }

    /// Checks that TLS was intercepted if and only if a Pipelock's policy names an authority.
    fn interception(self, findings: &mut Findings) {
        let Some(named) = self.allowed.intercepts() else {
            return;
        };
        let is_pipelock = self.boundary_document.mediator.pipelock().is_some();
        let expected = named && is_pipelock;
        if self.boundary_document.tls_interception.is_some() != expected {
            let text = |is_there| {
                if is_there {
                    "an authority that intercepts TLS"
                } else {
                    "no authority that intercepts TLS"
                }
            };
            let expected = format!("{}, as in {POLICY_FILE}", text(expected));
            differs(
                findings,
                BOUNDARY_FILE,
                &expected,
                text(!expected.starts_with("an ")),
            );
        }
    }

    /// Checks that the records do not exceed the limits on processes, evidence, and time.
    fn limits(self, caps: &mut Caps) {
        if !self.boundary_document.incomplete.is_empty() {
            return;
        }
        let limits = &self.boundary_document.limits;
        let at = |step: &str| {
            let mut marks = self.boundary_document.timeline.iter();
            let mark = marks.find(|mark| mark.step.as_str() == step);
            mark.map(|mark| mark.at_us)
        };
        let ran = at("command ended").zip(at("command executed"));
        let ran = ran.map(|(ended, executed)| ended.saturating_sub(executed));
        let most = limits
            .seconds
            .most
            .map(|most| most.saturating_mul(SECOND_US));
        let is_late = match (ran, most) {
            (Some(ran), Some(most)) => ran > most.saturating_add(ENDED_WITHIN),
            _ => false,
        };
        let is_early = match (ran, most) {
            (Some(ran), Some(most)) => ran < most,
            (_, None) => true,
            (None, Some(_)) => false,
        };
        let sizes = [
            limits.memory.most,
            limits.scratch.most,
            limits.evidence.most,
        ];
        caps.unless(
            sizes.iter().all(|most| *most >= SMALLEST_SIZE),
            Grade::KernelObserved,
            "a limit on a size is smaller than egress accepts",
        );
        for (exceeds, what) in [
            (
                self.counted.processes() > limits.processes.most,
                "processes",
            ),
            (
                self.counted.least_length() > limits.evidence.most,
                "bytes of evidence",
            ),
            (is_late, "seconds"),
        ] {
            caps.unless(
                !exceeds,
                Grade::KernelObserved,
                &format!("the run had more {what} than its limit"),
            );
        }
        caps.unless(
            !(limits.seconds.reached && is_early),
            Grade::KernelObserved,
            "the time limit ended the command before it was reached",
        );
    }
}
