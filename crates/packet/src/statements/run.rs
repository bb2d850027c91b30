//! Compares the times, the steps, and the programs of a run in several files.
use std::collections::{BTreeMap, BTreeSet};

use pipelock_receipts::findings::Findings;

use super::super::format::boundary::Step;
use super::super::grade::{Caps, Grade};
use super::super::joined::nanos;
use super::super::names::{ATTESTATION_FILE, BOUNDARY_FILE, CAPSULE_FILE, FLOWS_FILE, PACKET_FILE};
use super::{Statements, differs};

/// Id of the root of the cgroup hierarchy. The cgroups of a run are below the root. The id 0 means that the program was
/// detached.
const ROOT_CGROUP: u64 = 1;

impl Statements<'_> {
    /// Checks that the times in `packet.json` are close to those of the flow log. `generated_at` may be later, because
    /// the time until the packet is written grows with the number of receipts.
    pub(super) fn times(self, findings: &mut Findings) {
        const CHECKED_WITHIN: i128 = 600_000_000_000;
        let Some(packet) = self.packet else {
            return;
        };
        let slack = self.times.slack;
        let run = &packet.run;
        let all = [
            (
                "run.started_at",
                Some(&run.started_at),
                self.times.first,
                slack,
            ),
            (
                "run.completed_at",
                run.completed_at.as_ref(),
                self.times.gone,
                slack,
            ),
            (
                "generated_at",
                Some(&packet.generated_at),
                self.times.last,
                slack.saturating_add(CHECKED_WITHIN),
            ),
        ];
        for (member, stated, seen, most) in all {
            let (Some(stated), Some(seen)) = (stated, seen) else {
                continue;
            };
            let is_near = nanos(stated).is_some_and(|stated| {
                let apart = stated.saturating_sub(seen);
                apart <= most && apart >= slack.saturating_neg()
            });
            if !is_near {
                let expected = format!("{member} as in {FLOWS_FILE}");
                differs(findings, PACKET_FILE, &expected, stated);
            }
        }
    }

    /// Checks that the steps of the run exist and are in order, and that the command has either an exit status or a
    /// timeout.
    pub(super) fn steps(self, caps: &mut Caps) {
        let timeline = &self.boundary_document.timeline;
        let places: Vec<Option<usize>> = timeline
            .iter()
            .map(|mark| {
                Step::WORDS
                    .iter()
                    .position(|step| *step == mark.step.as_str())
            })
            .collect();
        let in_order = places.is_sorted_by(|one, next| one < next);
        let in_time = timeline.is_sorted_by_key(|mark| mark.at_us);
        caps.unless(
            in_order && in_time,
            Grade::KernelObserved,
            "the steps of the run are not in their order",
        );
        let lacking = Step::WORDS
            .iter()
            .filter(|step| !Step::is_of_some_runs(step));
        let lacking =
            lacking.filter(|step| !timeline.iter().any(|mark| mark.step.as_str() == **step));
        for step in lacking.filter(|_| self.boundary_document.incomplete.is_empty()) {
            caps.cap(Grade::KernelObserved, format!("the run has no step {step}"));
        }
        let has_status = self
            .packet
            .is_none_or(|packet| packet.run.agent_exit_code.is_some());
        let is_timed_out = self.boundary_document.limits.seconds.reached;
        caps.unless(
            has_status != is_timed_out || !self.boundary_document.incomplete.is_empty(),
            Grade::KernelObserved,
            "the command has both an exit status and a timeout, or neither",
        );
    }

    /// Returns the port of the explicit proxy inside the boundary, if the capsule states it.
    pub(in super::super) fn proxy_port(self) -> Option<i64> {
        let launch = self.capsule()?.evidence.contain_launch.as_ref()?;
        Some(launch.proxy_port)
    }

    /// Checks that the steps of the run took as long as the times of the supervisor's rows show. The rows may show a
    /// longer time if the machine was suspended.
    pub(super) fn course(self, caps: &mut Caps) {
        let at = |name: &str| {
            let mut marks = self.boundary_document.timeline.iter();
            let mark = marks.find(|mark| mark.step.as_str() == name)?;
            Some(i128::from(mark.at_us).saturating_mul(1_000))
        };
        let times = self.times;
        let pairs = [
            (at("command ended"), times.gone),
            (at("mediator ended"), times.last),
        ];
        let begin = at("command executed").zip(times.first);
        let fits = pairs.into_iter().all(|(until, last)| {
            let (Some((from, first)), Some(until), Some(last)) = (begin, until, last) else {
                return true;
            };
            let more = last
                .saturating_sub(first)
                .saturating_sub(until.saturating_sub(from));
            more <= times.shown && more >= times.slack.saturating_neg()
        });
        caps.unless(
            fits,
            Grade::KernelObserved,
            "the steps of the run did not take as long as its rows show",
        );
    }

    pub(super) fn tool(self, findings: &mut Findings) {
        let expected = format!("egress-{}", self.boundary_document.egress.version);
        let stated = [
            self.capsule()
                .map(|capsule| (CAPSULE_FILE, &capsule.tool_version)),
            self.predicate
                .map(|predicate| (ATTESTATION_FILE, &predicate.tool)),
        ];
        for (file, stated) in stated.into_iter().flatten() {
            if *stated != expected {
                differs(findings, file, &expected, stated);
            }
        }
    }

    /// Checks that each kernel program is attached once and at its hook, and that the programs of the command, the
    /// relay, and the mediator are attached to three different cgroups.
    pub(super) fn links(self, findings: &mut Findings, caps: &mut Caps) {
        let programs = &self.boundary_document.programs;
        let mut left: BTreeMap<u32, (&str, u32)> = BTreeMap::new();
        for program in &programs.attached {
            left.insert(program.id, (&program.name, program.attach_type));
        }
        let mut cgroups: BTreeMap<&str, u64> = BTreeMap::new();
        for link in &programs.links {
            let Some((name, hook)) = left.remove(&link.program_id) else {
                let found = format!("link {} of program {}", link.id, link.program_id);
                differs(findings, BOUNDARY_FILE, "a link for each program", &found);
                continue;
            };
            if hook != link.attach_type {
                let found = format!("attach_type {}", link.attach_type);
                differs(
                    findings,
                    BOUNDARY_FILE,
                    &format!("{name} at hook {hook}"),
                    &found,
                );
            }
            let of_whom = name.split('_').next().unwrap_or_default();
            let cgroup = *cgroups.entry(of_whom).or_insert(link.cgroup_id);
            let is_there = cgroup == link.cgroup_id && cgroup > ROOT_CGROUP;
            caps.unless(
                is_there,
                Grade::KernelObserved,
                &format!(
                    "{name} is not attached to the same cgroup as the other programs of the {of_whom}"
                ),
            );
        }
        for (name, _) in left.into_values() {
            differs(
                findings,
                BOUNDARY_FILE,
                &format!("a link of {name}"),
                "none",
            );
        }
        let different: BTreeSet<u64> = cgroups.values().copied().collect();
        caps.unless(
            different.len() == cgroups.len(),
            Grade::KernelObserved,
            "programs of two cgroups are attached to the same cgroup",
        );
    }
}
