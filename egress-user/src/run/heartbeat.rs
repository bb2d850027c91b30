//! Writes the rows of the flow log that show whether the enforcement was in place: at the start, while the command
//! runs, when it has ended, and at the end.
//!
//! Claims: boundary-throughout
use std::io;
use std::time::{Duration, Instant};

use audit_packet::format::rows::{BeatRow, HEARTBEAT_S};
use audit_packet::format::{BeatEvent, Exactly, Row};
use egress_common::abi::Counter;
use egress_sys::clock;
use egress_sys::privileges::{self, Enforced};

use super::boundary::Boundary;
use super::flows::FlowLog;

/// Interval between two heartbeats.
const INTERVAL: Duration = Duration::from_secs(HEARTBEAT_S);
/// Maximum number of the command's processes that one heartbeat checks.
const MOST_PROCESSES: usize = 1024;

/// The heartbeats of one run.
#[derive(Debug)]
pub(super) struct Heartbeat {
    next: u64,
    due: Instant,
}

/// The parts of a run that a heartbeat checks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched<'r> {
    boundary: &'r Boundary,
    enforced: &'r Enforced,
}

impl<'r> Watched<'r> {
    /// `enforced` is the state of the command's first process after it dropped its privileges.
    pub(super) fn of(boundary: &'r Boundary, enforced: &'r Enforced) -> Self {
        Self { boundary, enforced }
    }
}

impl Heartbeat {
    /// Returns a value whose first heartbeat is due at once.
    pub(super) fn new() -> Self {
        Self {
            next: 0,
            due: Instant::now(),
        }
    }

    /// Writes a heartbeat if one is due.
    ///
    /// # Errors
    /// Fails if the state cannot be read, or the row cannot be written.
    pub(super) fn beat(&mut self, flows: &mut FlowLog, watched: Watched<'_>) -> io::Result<()> {
        if Instant::now() < self.due {
            return Ok(());
        }
        self.due = Instant::now() + INTERVAL;
        self.write(flows, BeatEvent::Heartbeat, watched)
    }

    /// Writes that no process of the command is left.
    ///
    /// # Errors
    /// Fails if the state cannot be read, or the row cannot be written.
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

    /// Returns the state of the enforcement as the kernel reports it now. The last row of `flows.jsonl` also contains
    /// this state.
    ///
    /// # Errors
    /// Fails if the state cannot be read.
    pub(super) fn row(&mut self, event: BeatEvent, watched: Watched<'_>) -> io::Result<BeatRow> {
        let boundary = watched.boundary;
        let links = boundary.gates.attached()?;
        // Init is also in the agent's cgroup, but is not checked, because init is root.
        let init = boundary.init.child.pid.as_raw().cast_unsigned();
        let mut of_agent = boundary.cgroups.agent.processes()?;
        of_agent.retain(|pid| *pid != init);
        let unconfined = of_agent
            .iter()
            .take(MOST_PROCESSES)
            .filter(|pid| !is_confined(**pid, watched.enforced))
            .count();
        let counter = |counter| boundary.gates.counter(counter).map_err(io::Error::other);
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

/// Returns whether a process is as confined as the command's first process: the same user and filters, and no
/// privileges. A process that has ended counts as confined.
fn is_confined(pid: u32, first: &Enforced) -> bool {
    privileges::status_of(pid).is_none_or(|now| {
        now.no_new_privs
            && now.seccomp_mode == first.seccomp_mode
            && now.seccomp_filters >= first.seccomp_filters
            && now.capabilities == 0
            && now.uid == first.uid
    })
}
