//! Rows of the flow log that show that the enforcement was in place: at the start, while the agent
//! runs, when it is gone, and at the end.
use std::io;
use std::time::{Duration, Instant};

use audit_packet::format::rows::{BeatRow, HEARTBEAT_S};
use audit_packet::format::{BeatEvent, Exactly, Row};
use egress_common::abi::Counter;
use egress_sandbox::cgroup::CgroupGuard;
use egress_sys::clock;
use egress_sys::privileges::{self, Enforced};
use egress_sys::process::Child;

use super::flows::FlowLog;
use crate::bpf::Gates;

/// Time between two heartbeats.
const INTERVAL: Duration = Duration::from_secs(HEARTBEAT_S);
/// Processes of the agent that one heartbeat looks at.
const MOST_PROCESSES: usize = 1024;

/// The beats of one run.
#[derive(Debug)]
pub(super) struct Heart {
    next: u64,
    due: Instant,
}

/// What a heartbeat looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched<'r> {
    gates: &'r Gates,
    agent: &'r CgroupGuard,
    init: u32,
    enforced: &'r Enforced,
}

impl<'r> Watched<'r> {
    /// `init` is root and in the `agent`'s cgroup; `enforced` is what the agent's first process had
    /// given up.
    pub(super) fn of(
        gates: &'r Gates,
        agent: &'r CgroupGuard,
        init: &Child,
        enforced: &'r Enforced,
    ) -> Self {
        Self {
            gates,
            agent,
            init: init.pid.as_raw().cast_unsigned(),
            enforced,
        }
    }
}

impl Heart {
    /// The first beat is due at once.
    pub(super) fn new() -> Self {
        Self {
            next: 0,
            due: Instant::now(),
        }
    }

    /// Writes a heartbeat when one is due.
    pub(super) fn beat(&mut self, flows: &mut FlowLog, watched: Watched<'_>) -> io::Result<()> {
        if Instant::now() < self.due {
            return Ok(());
        }
        self.due = Instant::now() + INTERVAL;
        self.write(flows, BeatEvent::Heartbeat, watched)
    }

    /// Writes that the agent is gone.
    pub(super) fn gone(&mut self, flows: &mut FlowLog, watched: Watched<'_>) -> io::Result<()> {
        self.write(flows, BeatEvent::AgentGone, watched)
    }

    fn write(
        &mut self,
        flows: &mut FlowLog,
        event: BeatEvent,
        watched: Watched<'_>,
    ) -> io::Result<()> {
        let row = self.row(event, watched)?;
        flows.row(&Row::Supervisor(row))
    }

    /// The state of the enforcement, as the kernel says it is now. `flows.jsonl` ends with one.
    pub(super) fn row(&mut self, event: BeatEvent, watched: Watched<'_>) -> io::Result<BeatRow> {
        let links = watched.gates.attached()?;
        let processes = watched.agent.processes()?;
        let of_agent: Vec<u32> = processes
            .into_iter()
            .filter(|pid| *pid != watched.init)
            .collect();
        let unconfined = of_agent
            .iter()
            .take(MOST_PROCESSES)
            .filter(|pid| !is_confined(**pid, watched.enforced))
            .count();
        let counter = |counter| watched.gates.counter(counter).map_err(io::Error::other);
        let row = BeatRow {
            ts: clock::now_rfc3339().into(),
            event,
            beat: self.next,
            interval_s: Exactly::VALUE,
            links: links.iter().map(|link| link.id.into()).collect(),
            processes: of_agent.len() as u64,
            unconfined: unconfined as u64,
            ring_full: counter(Counter::RingFull)?,
            relay_denied: counter(Counter::RelayDenied)?,
        };
        self.next += 1;
        Ok(row)
    }
}

/// Whether a process still has what the agent's first one had: its filters, no privileges, its user.
/// One that is gone by now had.
fn is_confined(pid: u32, first: &Enforced) -> bool {
    privileges::status_of(pid).is_none_or(|now| {
        now.no_new_privs
            && now.seccomp_mode == first.seccomp_mode
            && now.seccomp_filters >= first.seccomp_filters
            && now.capabilities == 0
            && now.uid == first.uid
    })
}
