//! `Running → Collected`: ends what is left of the agent, then the relay, then the mediator, and
//! reads what they leave. It cannot fail: what is missing is a reason why the run is incomplete.
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use egress_common::abi::Counter;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, Shutdown, shutdown};
use nix::sys::wait::WaitStatus;
use serde::Serialize;

use super::flows::{Denied, FlowCounts, FlowLog};
use super::launch::Helper;
use super::plan::{Plan, WorkspaceMode};
use super::prepare::Measured;
use super::state::RunDir;
use super::supervise::{Ending, Running, relay_report, take_report};
use super::timeline::Timeline;
use crate::apply::judge::Protected;
use crate::apply::{self, Concluded, Decision, Recovered};
use crate::boundary::users::UserLease;
use crate::bpf::{Gates, ProgramIdentity};
use crate::clock;
use crate::policy::runtime::RuntimePolicy;
use crate::sys::privileges::Enforced;

/// How long the relay and the mediator each may take to end in order.
const END_WITHIN: Duration = Duration::from_secs(5);

/// The kernel's counters at the end of the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Events that found the ring buffer full: the flow log misses them.
    pub ring_full: u64,
    /// Refusals because a program could not read or store what it needs.
    pub internal: u64,
    /// Packets stopped on their way to another interface than loopback.
    pub skb_dropped: u64,
    /// Refusals of the relay's own gates.
    pub relay_denied: u64,
    /// Connections whose destination was handed to the relay.
    pub slots_written: u64,
}

/// Everything that one run left behind.
#[derive(Debug)]
#[must_use = "nothing of it is verified yet"]
pub struct Collected {
    /// How the agent ended.
    pub ending: Ending,
    /// Why the record is not complete; empty when it is.
    pub incomplete: Vec<String>,
    /// Evidence files in numeric order: path and bytes.
    pub evidence: Vec<(PathBuf, Vec<u8>)>,
    /// Bytes of the flow log.
    pub flows: Vec<u8>,
    /// What the flow log holds.
    pub counts: FlowCounts,
    /// Refused destinations and how often, most telling first.
    pub denied: Vec<(Denied, u64)>,
    /// Kernel counters.
    pub counters: Counters,
    /// Programs that were attached.
    pub programs: Vec<ProgramIdentity>,
    /// What the agent process had given up.
    pub enforced: Enforced,
    /// What the boundary turned out to be.
    pub measured: Measured,
    /// The policy in force.
    pub policy: RuntimePolicy,
    /// When the command was executed.
    pub started_at: String,
    /// When it ended.
    pub completed_at: String,
    /// When each step was reached.
    pub timeline: Timeline,
    /// What became of the agent's changes, where they were kept apart.
    pub workspace: Option<Concluded>,
    /// What killed runs before this one had left beside the workspace.
    pub recovered: Vec<Recovered>,
    /// Ids of the run's users: agent, host, relay.
    pub uids: [u32; 3],
    pub(super) plan: Plan,
    pub(super) _users: UserLease,
    pub(super) dir: RunDir,
}

impl Running {
    pub(super) fn collect(mut self, ending: Ending, mut flows: FlowLog) -> Collected {
        let mut incomplete = Vec::new();
        let mut note = |what: &str, done: io::Result<()>| {
            if let Err(error) = done {
                incomplete.push(format!("{what}: {error}"));
            }
        };
        let completed_at = clock::now_rfc3339();
        note("end the agent", self.cgroups.agent.kill());
        note("wait for the agent's end", self.cgroups.agent.wait_empty());
        note(
            "reap the boundary's init",
            self.init.wait_for(1000).map(drop),
        );
        note(
            "read the kernel's events",
            self.drain_events(&mut flows).map_err(io::Error::other),
        );
        self.timeline.mark("agent gone");
        let workspace = self.conclude(&ending).unwrap_or_else(|error| {
            note("apply the agent's changes", Err(error));
            None
        });
        self.timeline.mark("workspace done");
        // The agent is gone: its connections are closed, and the relay has their last words to say.
        note("end the relay", end_relay(&self.relay, &mut flows));
        note(
            "read the kernel's events",
            self.drain_events(&mut flows).map_err(io::Error::other),
        );
        self.timeline.mark("relay ended");
        note("end the mediator", end_mediator(&self.mediator));
        self.timeline.mark("mediator ended");
        note("finish the flow log", flows.finish());
        note("pass on the agent's output", self.pumps.finish().map(drop));
        let counters = counters(&self.gates).unwrap_or_else(|error| {
            note("read the kernel's counters", Err(error));
            Counters::default()
        });
        let evidence = read_evidence(&self.dir.evidence()).unwrap_or_else(|error| {
            note("read the evidence", Err(error));
            Vec::new()
        });
        let flow_bytes =
            std::fs::read(self.dir.path().join("flows.jsonl")).unwrap_or_else(|error| {
                note("read the flow log", Err(error));
                Vec::new()
            });
        if counters.ring_full > 0 {
            incomplete.push(format!(
                "{} kernel events found the ring buffer full",
                counters.ring_full
            ));
        }
        if flows.counts().malformed > 0 {
            incomplete.push(format!(
                "{} kernel events were malformed",
                flows.counts().malformed
            ));
        }
        if let Ending::Failed(why) = &ending {
            incomplete.push(why.clone());
        }
        let mut denied: Vec<(Denied, u64)> = flows
            .denied()
            .iter()
            .map(|(denied, count)| (denied.clone(), *count))
            .collect();
        denied.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Collected {
            ending,
            incomplete,
            evidence,
            flows: flow_bytes,
            counts: flows.counts().clone(),
            denied,
            counters,
            programs: self.gates.programs().to_vec(),
            enforced: self.enforced,
            measured: self.measured,
            policy: self.policy,
            started_at: self.started_at,
            completed_at,
            timeline: self.timeline,
            workspace,
            recovered: self.recovered,
            uids: [self.users.agent, self.users.host, self.users.relay],
            plan: self.plan,
            _users: self.users,
            dir: self.dir,
        }
    }
}

impl Running {
    /// Applies what the agent changed, or keeps it apart. A boundary that failed leaves the workspace
    /// as it was, and so does an agent that may still be there.
    fn conclude(&self, ending: &Ending) -> io::Result<Option<Concluded>> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        if self.plan.workspace == WorkspaceMode::Copy {
            return Ok(None);
        }
        if self.cgroups.agent.is_populated()? {
            return Err(io::Error::other("processes of the agent are left"));
        }
        let protected = self
            .measured
            .masked
            .iter()
            .chain(&self.plan.protected)
            .map(PathBuf::as_path);
        let protected = Protected::new(&self.plan.workdir, protected);
        let failed = matches!(ending, Ending::Failed(_));
        let decision = if self.plan.workspace == WorkspaceMode::Apply && !failed {
            Decision::Apply
        } else {
            Decision::Discard
        };
        apply::conclude(store, &protected, decision).map(Some)
    }
}

/// Closes our half of the relay's socket, reads its last reports, and takes its status.
fn end_relay(relay: &Helper, flows: &mut FlowLog) -> io::Result<()> {
    use std::os::fd::{AsFd, AsRawFd};
    // A relay that is already gone has closed the socket; the loop below sees it.
    if let Err(errno) = shutdown(relay.control.as_fd().as_raw_fd(), Shutdown::Write)
        && errno != nix::errno::Errno::ENOTCONN
    {
        return Err(errno.into());
    }
    let deadline = Instant::now() + END_WITHIN;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(relay.control.as_fd(), PollFlags::POLLIN)];
        if left.is_zero()
            || poll(
                &mut fds,
                PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO),
            )? == 0
        {
            break;
        }
        match relay_report(relay, MsgFlags::MSG_DONTWAIT) {
            Ok(Some(report)) => {
                if let Some(failed) = take_report(flows, report).map_err(io::Error::other)? {
                    return Err(io::Error::other(failed));
                }
            }
            Ok(None) => {}
            Err(_) => break,
        }
    }
    ended_well(relay)
}

/// SIGTERM, time to close its session, then SIGKILL.
fn end_mediator(mediator: &Helper) -> io::Result<()> {
    mediator.child.signal(Signal::SIGTERM);
    ended_well(mediator)
}

fn ended_well(helper: &Helper) -> io::Result<()> {
    let wait = u16::try_from(END_WITHIN.as_millis()).unwrap_or(u16::MAX);
    match helper.child.wait_for(wait)? {
        Some(WaitStatus::Exited(_, 0)) => Ok(()),
        Some(status) => Err(io::Error::other(format!("it ended with {status:?}"))),
        None => {
            helper.child.signal(Signal::SIGKILL);
            helper.child.wait_for(1000)?;
            Err(io::Error::other(format!(
                "it did not end within {END_WITHIN:?} and was killed"
            )))
        }
    }
}

fn counters(gates: &Gates) -> io::Result<Counters> {
    let read = |counter| gates.counter(counter).map_err(io::Error::other);
    Ok(Counters {
        ring_full: read(Counter::RingFull)?,
        internal: read(Counter::Internal)?,
        skb_dropped: read(Counter::SkbDropped)?,
        relay_denied: read(Counter::RelayDenied)?,
        slots_written: read(Counter::SlotWritten)?,
    })
}

/// Reads `evidence-*.jsonl` in the order of their first sequence number, never through a link.
fn read_evidence(dir: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| {
            name.strip_prefix("evidence-")?
                .strip_suffix(".jsonl")?
                .rsplit('-')
                .next()?
                .parse::<u64>()
                .ok()
        });
        if let Some(number) = number
            && entry.file_type()?.is_file()
        {
            files.push((number, entry.path()));
        }
    }
    files.sort_unstable();
    files
        .into_iter()
        .map(|(_, path)| Ok((path.clone(), std::fs::read(path)?)))
        .collect()
}
