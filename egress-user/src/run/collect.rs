//! `Ended → Collected`: ends the rest of the command, then the relay, then the mediator, and reads the evidence.
//!
//! This step cannot fail. If a part of the record is missing, `incomplete` has the reason.
use std::io;
use std::path::PathBuf;

use audit_packet::denied::{Attempts, in_natural_order};
use audit_packet::format::BeatEvent;
use audit_packet::format::boundary::{CommandFile, Counters};
use audit_packet::format::rows::EndRow;
use egress_sys::clock;

use super::boundary::Boundary;
use super::conclude::conclude;
use super::context::RunContext;
use super::ending::Ending;
use super::environment;
use super::error::RunError;
use super::facts::{LimitsReached, RunFacts};
use super::flows::{FlowCounts, FlowLog};
use super::heartbeat::{Heartbeat, Watched};
use super::launch::Live;
use super::supervise::Ended;

/// A run whose processes have all ended.
#[derive(Debug)]
#[must_use = "its evidence is not verified yet"]
pub struct Collected(RunFacts);

impl Collected {
    pub(super) fn into_facts(self) -> RunFacts {
        self.0
    }
}

impl Ended {
    /// Ends every process of the run, opens the boundary, and returns the facts about the run.
    pub fn collect(self) -> Collected {
        let (live, mut heartbeat, ending) = self.into_parts();
        // Variables drop in reverse order, so the boundary comes last.
        let Live {
            mut context,
            mut flows,
            mut command,
            mut network,
            mut boundary,
        } = live;
        let mut notes = Notes::default();
        let completed_at = clock::now_rfc3339();
        notes.duty("end the command", boundary.cgroups.agent.kill());
        let gone = boundary.cgroups.agent.wait_empty();
        let is_gone = notes.duty("wait for the command's end", gone).is_some();
        notes.duty("reap the boundary's init", boundary.reap_init());
        notes.reports(network.read_reports(&mut flows, &mut boundary));
        if is_gone {
            let gone = heartbeat.gone(&mut flows, Watched::of(&boundary, &command.enforced));
            notes.duty("record the end of the command", gone);
        }
        flows.leave_agent_root();
        command.pumps = command.pumps.leave_terminal();
        context.timeline.mark("agent gone");
        let (command_files, reached) = look_back(&boundary, &context, &mut notes);
        let concluded = conclude(&boundary, &context, &ending);
        let mut workspace = notes
            .duty("apply the command's changes", concluded)
            .flatten();
        if let Some(error) = workspace.as_mut().and_then(|one| one.lost.take()) {
            notes.duty::<()>("keep the changes that were not applied", Err(error));
        }
        context.timeline.mark("workspace done");
        // No process of the command is left, so its connections are closed, and the relay sends their last reports.
        notes.duty("end the relay", network.end_relay(&mut flows));
        notes.events(boundary.drain(&mut flows, |_| Ok(())));
        context.timeline.mark("relay ended");
        let network = network.end(flows.let_through(), &context);
        notes.failed |= network.mediator.failed;
        notes.incomplete.extend(network.mediator.incomplete);
        notes.events(boundary.drain_to_the_end(&mut flows));
        context.timeline.mark("mediator ended");
        finish_flows(
            &mut flows,
            heartbeat,
            Watched::of(&boundary, &command.enforced),
            &context,
            &mut notes,
        );
        // The pumps end when no process has the command's streams open. An error here concerns the caller's stream, not
        // the run.
        let output = is_gone
            .then(|| notes.loss("pass on the command's output", command.pumps.finish()))
            .flatten()
            .unwrap_or_default();
        notes.duty(
            "check that the kernel programs are attached",
            boundary.gates.check_links(),
        );
        let counters = notes
            .duty("read the kernel's counters", boundary.counters())
            .unwrap_or_default();
        let mut evidence = notes
            .duty("read the evidence", network.evidence)
            .unwrap_or_default();
        let flow_bytes = std::fs::read(context.dir.path().join("flows.jsonl"));
        let flow_bytes = notes.duty("read the flow log", flow_bytes);
        let (mut incomplete, helper_failed) = (notes.incomplete, notes.failed);
        incomplete.extend(cut_torn_line(&mut evidence));
        incomplete.extend(lost(&counters, flows.counts()));
        if let Ending::Failed(why) = &ending {
            incomplete.push(why.clone());
        }
        Collected(RunFacts {
            ending,
            incomplete,
            helper_failed,
            evidence,
            unverified: network.unverified,
            flows: flow_bytes.unwrap_or_default(),
            counts: flows.counts().clone(),
            flow_head: flows.head().0.to_owned(),
            flow_rows: flows.head().1,
            denied: most_denied(&flows),
            answered: Attempts::new(),
            unserved: flows.unserved().collect(),
            allowed: most_allowed(&flows),
            counters,
            programs: boundary.gates.programs().to_vec(),
            unavailable: boundary.gates.unavailable().to_vec(),
            links: boundary.gates.links().to_vec(),
            enforced: command.enforced,
            policy: network.mediator.policy,
            capsule: network.mediator.capsule,
            mediator: network.mediator.record,
            started_at: command.started_at,
            completed_at,
            workspace,
            command_files,
            reached,
            output,
            context,
        })
    }
}

/// Writes the last row of the flow log. No other row has the event of this row.
fn finish_flows(
    flows: &mut FlowLog,
    mut heartbeat: Heartbeat,
    watched: Watched<'_>,
    context: &RunContext,
    notes: &mut Notes,
) {
    let last = heartbeat.row(BeatEvent::AgentGone, watched);
    let set_by = context.timeline.clock.set_by().as_millis();
    let set_by = u64::try_from(set_by).unwrap_or(u64::MAX);
    let last = notes
        .duty("check the kernel programs", last)
        .map(|beat| EndRow::of(beat, flows.counts().malformed, set_by));
    notes.duty("finish the flow log", flows.finish(last));
}

/// Reads the files that the command wrote for the runner, the full scratch directories, and the limits that the command
/// reached.
fn look_back(
    boundary: &Boundary,
    context: &RunContext,
    notes: &mut Notes,
) -> (Vec<CommandFile>, LimitsReached) {
    let names: Vec<&str> = environment::command_files(&context.plan.environment).collect();
    let files = boundary.agent_fds.command_files(&names);
    let files = notes.loss(
        "read the files that the command wrote for the runner",
        files,
    );
    let full = notes.loss(
        "check whether the scratch directories are full",
        boundary.agent_fds.full(),
    );
    let reached = LimitsReached {
        cgroups: notes.loss(
            "read the limit counters of the cgroups",
            boundary.caps.report(),
        ),
        full: full.unwrap_or_default(),
    };
    (files.unwrap_or_default(), reached)
}

/// Steps that failed while a run was collected.
#[derive(Debug, Default)]
struct Notes {
    incomplete: Vec<String>,
    failed: bool,
}

impl Notes {
    /// Returns the result of a step. If the step failed, the record is incomplete and the run has failed.
    fn duty<T>(&mut self, what: &str, done: io::Result<T>) -> Option<T> {
        self.failed |= done.is_err();
        self.loss(what, done)
    }

    /// Returns the result of a step. If the step failed, the record is incomplete.
    fn loss<T>(&mut self, what: &str, done: io::Result<T>) -> Option<T> {
        match done {
            Ok(value) => Some(value),
            Err(error) => {
                let note = format!("cannot {what}: {error}");
                if !self.incomplete.contains(&note) {
                    self.incomplete.push(note);
                }
                None
            }
        }
    }

    fn events<T>(&mut self, done: Result<T, RunError>) -> Option<T> {
        let done = done.map_err(|error| io::Error::other(error.on_one_line()));
        self.duty("record the kernel's events", done)
    }

    /// Notes what is missing from the last reports of the relay. `read` may contain an error text of the relay.
    fn reports(&mut self, read: Result<Option<String>, RunError>) {
        if let Some(failed) = self.events(read).flatten() {
            self.duty::<()>("read the relay's reports", Err(io::Error::other(failed)));
        }
    }
}

/// Returns a reason for each kind of record that is missing.
fn lost(counters: &Counters, counts: &FlowCounts) -> Vec<String> {
    let mut reasons = Vec::new();
    for (count, what) in [
        (
            counters.ring_full,
            "kernel events found the ring buffer full",
        ),
        (counts.malformed, "kernel events were malformed"),
        (
            counters.relay_denied,
            "calls of the relay were denied by its kernel programs; an intact relay makes no such calls",
        ),
        (
            counters
                .closes_expected
                .saturating_sub(counters.closes_seen),
            "connections of the command were still open, so their bytes are not in the flow log",
        ),
    ] {
        if count > 0 {
            reasons.push(format!("{count} {what}"));
        }
    }
    reasons
}

/// Returns host, port, and number of the requests and tunnels that went through, the most frequent first.
fn most_allowed(flows: &FlowLog) -> Vec<(String, u16, u64)> {
    let mut allowed: Vec<_> = flows.allowed().collect();
    allowed.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.cmp(b)));
    allowed
}

/// Returns the kinds of denied attempts with their counts, the most frequent first.
fn most_denied(flows: &FlowLog) -> Attempts {
    let mut denied: Attempts = flows
        .denied()
        .iter()
        .map(|(denied, count)| (denied.clone(), *count))
        .collect();
    in_natural_order(&mut denied, |(denied, count)| (denied, *count));
    denied
}

/// Removes an incomplete last line, which a mediator leaves if it is killed while it writes. Such a line is not
/// evidence.
fn cut_torn_line(evidence: &mut [(PathBuf, Vec<u8>)]) -> Option<String> {
    let (_, bytes) = evidence.last_mut()?;
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let torn = bytes.len() - whole;
    bytes.truncate(whole);
    (torn > 0).then(|| {
        format!("the last {torn} bytes of the evidence are an incomplete line and were left out")
    })
}
