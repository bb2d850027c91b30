//! `Running → Collected`: ends what is left of the agent, then the relay, then the mediator, and
//! reads what they leave. It cannot fail: what is missing is a reason why the run is incomplete.
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use audit_packet::denied::{self, Attempts};
use audit_packet::format::BeatEvent;
use audit_packet::format::boundary::{CommandFile, Counters, Output, Program, Unavailable};
use audit_packet::format::rows::EndRow;
use egress_common::abi::Counter;
use egress_pipelock::evidence;
use egress_pipelock::facts::Facts;
use egress_sandbox::limits::LimitReport;
use egress_sys::channel::ChannelError;
use egress_sys::clock;
use egress_sys::privileges::Enforced;
use egress_sys::process::Child;
use egress_workspace::apply::{Concluded, Recovered};
use egress_workspace::users::UserLease;
use pipelock_receipts::capsule::Signed;

use super::ending::Ending;
use super::environment;
use super::error::{RunError, in_words};
use super::flows::{FlowCounts, FlowLog};
use super::heartbeat::{Heart, Watched};
use super::helper::{END_WITHIN, Helper, ended_well};
use super::ingest::{drain, take_report};
use super::mediator::Ruling;
use super::plan::{MediatorChoice, Mode, PlainHttp, Plan};
use super::prepare::Measured;
use super::running::Running;
use super::state::RunDir;
use super::timeline::Timeline;
use crate::bpf::Gates;
use crate::bpf::events::Events;
use crate::bpf::links::Link;

/// How long the kernel may take to close the connections of the run's ended parts.
///
/// On the command's side nothing waits for a peer: the command's processes and the relay are gone by then, and each end
/// answers the other on loopback. The mediator's own connections take the time that their origin takes to answer.
const CLOSED_WITHIN: Duration = Duration::from_millis(200);

/// Evidence that may be written while a run ends, and between two looks at its length.
const ENDING_BYTES: u64 = 64 << 20;

/// Limits that the agent reached.
#[derive(Debug)]
pub struct Reached {
    /// Processes and memory.
    pub cgroups: Option<LimitReport>,
    /// Scratch directories that are full.
    pub full: Vec<PathBuf>,
}

/// Everything that one run left behind.
#[derive(Debug)]
#[must_use = "nothing of it is verified yet"]
pub struct Collected {
    /// How the agent ended.
    pub ending: Ending,
    /// Why the record is not complete; empty when it is.
    pub incomplete: Vec<String>,
    /// Whether a part of the run did not do its last duty, whatever the agent's own end was.
    pub helper_failed: bool,
    /// Evidence files in numeric order: path and bytes.
    pub evidence: Vec<(PathBuf, Vec<u8>)>,
    /// Bytes of the flow log.
    pub flows: Vec<u8>,
    /// What the flow log holds.
    pub counts: FlowCounts,
    /// Hash of its last row.
    pub flow_head: String,
    /// Its rows.
    pub flow_rows: u64,
    /// Refused destinations and how often, most telling first.
    pub denied: Attempts,
    /// Answers that look like a denial and that no receipt confirms, the same.
    pub answered: Attempts,
    /// Host, port and number of the connections that went through.
    pub allowed: Vec<(String, u16, u64)>,
    /// Kernel counters.
    pub counters: Counters,
    /// Programs that were attached.
    pub programs: Vec<Program>,
    /// Programs that this kernel has no hook for.
    pub unavailable: Vec<Unavailable>,
    /// Where they were attached at the start.
    pub links: Vec<Link>,
    /// What the agent process had given up.
    pub enforced: Enforced,
    /// What the boundary turned out to be.
    pub measured: Measured,
    /// The policy in force.
    pub policy: Ruling,
    /// The posture capsule that the mediator was given; an audit has none.
    pub capsule: Option<Signed>,
    /// What there is to say of a real Pipelock.
    pub pipelock: Option<Facts>,
    /// When the command was executed.
    pub started_at: String,
    /// When it ended.
    pub completed_at: String,
    /// When each step was reached.
    pub timeline: Timeline,
    /// What became of the agent's changes, where they were kept apart.
    pub workspace: Option<Concluded>,
    /// What the agent wrote for the runner, which does not get it.
    pub command_files: Vec<CommandFile>,
    /// Which limits were reached.
    pub reached: Reached,
    /// What was passed on of its output.
    pub output: Output,
    /// What killed runs before this one had left beside the workspace.
    pub recovered: Vec<Recovered>,
    /// Ids of the run's users: agent, host, relay.
    pub uids: [u32; 3],
    pub(super) plan: Plan,
    pub(super) _users: UserLease,
    pub(super) dir: RunDir,
}

impl Collected {
    /// How plain HTTP was asked of the mediator.
    pub(super) fn plain_http(&self) -> PlainHttp {
        match &self.plan.mediator {
            MediatorChoice::Builtin => PlainHttp::Scan,
            MediatorChoice::Pipelock(choice) => choice.plain_http,
        }
    }
}

impl Running {
    pub(super) fn collect(
        mut self,
        ending: Ending,
        mut flows: FlowLog,
        mut heart: Heart,
    ) -> Collected {
        let mut notes = Notes::default();
        let completed_at = clock::now_rfc3339();
        notes.duty("end the agent", self.cgroups.agent.kill());
        let is_gone = notes.duty("wait for the agent's end", self.cgroups.agent.wait_empty());
        notes.duty("reap the boundary's init", reaped(&self.init.child));
        notes.events(self.drain_events(&mut flows));
        if is_gone.is_some() {
            let gone = heart.gone(&mut flows, self.watched());
            notes.duty("record the agent's end", gone);
        }
        flows.leave();
        self.timeline.mark("agent gone");
        let (command_files, reached) = self.look_back(&mut notes);
        let concluded = self.conclude(&ending);
        let mut workspace = notes.duty("apply the agent's changes", concluded).flatten();
        if let Some(error) = workspace.as_mut().and_then(|one| one.lost.take()) {
            notes.duty::<()>("keep the changes that were not applied", Err(error));
        }
        self.timeline.mark("workspace done");
        // The agent is gone: its connections are closed, and the relay has their last words to say.
        let tunnels = self.mediator.tunnels();
        let relay = self.relay.as_ref();
        let ended = relay.map_or(Ok(()), |relay| end_relay(relay, &mut flows));
        notes.duty("end the relay", ended);
        notes.events(self.drain_events(&mut flows));
        self.timeline.mark("relay ended");
        let allowed = flows.let_through();
        let mediator = self.mediator.end(&self.plan.mediator, tunnels, allowed);
        notes.failed |= mediator.failed;
        notes.incomplete.extend(mediator.incomplete);
        notes.events(last_events(&mut self.gates, &mut self.events, &mut flows));
        self.timeline.mark("mediator ended");
        let (gates, init) = (&self.gates, &self.init.child);
        let watched = Watched::of(gates, &self.cgroups.agent, init, &self.enforced);
        // The last row has an event of its own.
        let last = heart.row(BeatEvent::AgentGone, watched);
        let set_by = self.timeline.clock.set_by().as_millis();
        let set_by = u64::try_from(set_by).unwrap_or(u64::MAX);
        let last = notes
            .duty("look at the gates", last)
            .map(|beat| EndRow::of(beat, flows.counts().malformed, set_by));
        notes.duty("finish the flow log", flows.finish(last));
        // Pumping ends with the last process that holds the agent's streams. What the caller did not
        // take is the caller's affair.
        let output = is_gone
            .and_then(|()| notes.loss("pass on the agent's output", self.pumps.finish()))
            .unwrap_or_default();
        notes.duty("vouch for the gates", self.gates.check_links());
        let counters = notes.duty("read the kernel's counters", counters(&self.gates));
        let counters = counters.unwrap_or_default();
        let evidence = read_evidence(&self.plan, &self.dir.evidence());
        let mut evidence = notes
            .duty("read the evidence", evidence)
            .unwrap_or_default();
        let flow_bytes = std::fs::read(self.dir.path().join("flows.jsonl"));
        let flow_bytes = notes.duty("read the flow log", flow_bytes);
        let Notes {
            mut incomplete,
            failed: helper_failed,
        } = notes;
        incomplete.extend(cut_torn_line(&mut evidence));
        incomplete.extend(lost(&counters, flows.counts()));
        if let Ending::Failed(why) = &ending {
            incomplete.push(why.clone());
        }
        let mut allowed: Vec<_> = flows.allowed().collect();
        allowed.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.cmp(b)));
        Collected {
            ending,
            incomplete,
            helper_failed,
            evidence,
            flows: flow_bytes.unwrap_or_default(),
            counts: flows.counts().clone(),
            flow_head: flows.head().0.to_owned(),
            flow_rows: flows.head().1,
            denied: most_denied(&flows),
            answered: Attempts::new(),
            allowed,
            counters,
            programs: self.gates.programs().to_vec(),
            unavailable: self.gates.unavailable().to_vec(),
            links: self.gates.links().to_vec(),
            enforced: self.enforced,
            measured: self.measured,
            policy: mediator.policy,
            capsule: mediator.capsule,
            pipelock: mediator.facts,
            started_at: self.started_at,
            completed_at,
            timeline: self.timeline,
            workspace,
            command_files,
            output,
            reached,
            recovered: self.recovered,
            uids: [self.users.agent, self.users.host, self.users.relay],
            plan: self.plan,
            _users: self.users,
            dir: self.dir,
        }
    }
}

impl Running {
    /// Looks at what the agent left in its own view.
    fn look_back(&self, notes: &mut Notes) -> (Vec<CommandFile>, Reached) {
        let names: Vec<&str> = environment::command_files(&self.plan.environment).collect();
        let files = self.held.command_files(&names);
        let files = notes.loss("read what the agent wrote for the runner", files);
        let full = notes.loss("look at the scratch space", self.held.full());
        let reached = Reached {
            cgroups: notes.loss("read the counters of the limits", self.caps.report()),
            full: full.unwrap_or_default(),
        };
        (files.unwrap_or_default(), reached)
    }
}

/// What did not go as it should while a run was collected.
#[derive(Debug, Default)]
struct Notes {
    incomplete: Vec<String>,
    failed: bool,
}

impl Notes {
    /// Notes what was not done and fails the run; gives the value of what was done.
    fn duty<T>(&mut self, what: &str, done: io::Result<T>) -> Option<T> {
        self.failed |= done.is_err();
        self.loss(what, done)
    }

    /// Notes what was not done.
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

    fn events(&mut self, done: Result<(), RunError>) {
        let done = done.map_err(|error| io::Error::other(error.on_one_line()));
        self.duty("record the kernel's events", done);
    }
}

/// What the kernel's record misses, in words.
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
            "calls of the relay were refused by its gates, which a sound relay never makes",
        ),
        (
            counters
                .closes_expected
                .saturating_sub(counters.closes_seen),
            "connections of the command were still open, so what they carried is not in the flow log",
        ),
    ] {
        if count > 0 {
            reasons.push(format!("{count} {what}"));
        }
    }
    reasons
}

/// Reads what the kernel recorded up to the end of the mediator, and waits a moment for connections to close.
///
/// A connection outlives its process when the kernel still has bytes or a FIN to deliver. The command's connections lead
/// to the relay, which has ended: a socket with unread bytes sends a reset, the other ones a FIN, and both end the
/// orphan at once. The step to `TIME_WAIT` counts as the close, so nothing waits for its minute. A connection of the
/// mediator is an orphan until its origin acknowledges the FIN; one that does not do so in time is written as not
/// closed, with the bytes of the moment when the mediator closed it.
fn last_events(
    gates: &mut Gates,
    events: &mut Events,
    flows: &mut FlowLog,
) -> Result<(), RunError> {
    const LOOK_EVERY: Duration = Duration::from_millis(1);
    let deadline = Instant::now() + CLOSED_WITHIN;
    loop {
        // Counted before the ring is read: a close that was counted is in it.
        let expected = gates.counter(Counter::CloseExpected)?;
        let is_closed = gates.counter(Counter::CloseSeen)? >= expected;
        drain(gates, events, flows)?;
        if (is_closed && !flows.has_open_mediator()) || Instant::now() >= deadline {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Refused destinations and how often, most telling first.
fn most_denied(flows: &FlowLog) -> Attempts {
    let mut denied: Attempts = flows
        .denied()
        .iter()
        .map(|(denied, count)| (denied.clone(), *count))
        .collect();
    denied::sort(&mut denied);
    denied
}

/// Takes the status of the boundary's init, which was killed before.
fn reaped(init: &Child) -> io::Result<()> {
    match init.wait_for(1000)? {
        Some(_) => Ok(()),
        None => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "it outlived SIGKILL by 1 s",
        )),
    }
}

/// A process that is killed in the middle of a write leaves half a line, which is no evidence.
fn cut_torn_line(evidence: &mut [(PathBuf, Vec<u8>)]) -> Option<String> {
    let (_, bytes) = evidence.last_mut()?;
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let torn = bytes.len() - whole;
    bytes.truncate(whole);
    (torn > 0).then(|| format!("the last {torn} bytes of the evidence, half a line, are left out"))
}

/// Closes our half of the relay's socket, reads its last reports, and takes its status.
fn end_relay(relay: &Helper<egress_relay::plan::Report>, flows: &mut FlowLog) -> io::Result<()> {
    relay.control.finish()?;
    let deadline = Instant::now() + END_WITHIN;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let report = match relay.control.receive_within(left) {
            Ok(received) => received.message,
            // One that does not end is killed, and that is the reason.
            Err(ChannelError::Ended | ChannelError::Silent(_)) => break,
            Err(error) => return Err(io::Error::other(in_words(&error))),
        };
        if let Some(failed) = take_report(flows, report).map_err(io::Error::other)? {
            return Err(io::Error::other(failed));
        }
    }
    ended_well(relay)
}

fn counters(gates: &Gates) -> io::Result<Counters> {
    let read = |counter| gates.counter(counter).map_err(io::Error::other);
    Ok(Counters {
        ring_full: read(Counter::RingFull)?,
        internal: read(Counter::Internal)?,
        skb_dropped: read(Counter::SkbDropped)?,
        relay_denied: read(Counter::RelayDenied)?,
        caller_refused: read(Counter::CallerRefused)?,
        mediator_denied: read(Counter::MediatorDenied)?,
        slots_written: read(Counter::SlotWritten)?,
        closes_expected: read(Counter::CloseExpected)?,
        closes_seen: read(Counter::CloseSeen)?,
    })
}

/// Reads `evidence-*.jsonl` in the order of their first sequence number, never through a link.
fn read_evidence(plan: &Plan, dir: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    // Nobody signs anything in an audit.
    if plan.mode == Mode::Audit {
        return Ok(Vec::new());
    }
    // More than the run may have: a moment passes until one that has it is ended.
    let mut left = plan
        .limits
        .evidence
        .saturating_mul(2)
        .saturating_add(ENDING_BYTES);
    let mut all = Vec::new();
    for path in evidence::files(dir)? {
        let bytes = egress_files::read(&path, left)?;
        left = left.saturating_sub(bytes.len() as u64);
        all.push((path, bytes));
    }
    Ok(all)
}
