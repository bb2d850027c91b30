//! The kernel objects that enclose the command.
use std::io;
use std::time::{Duration, Instant};

use audit_packet::format::boundary::Counters;
use egress_common::abi::Counter;
use egress_sandbox::cgroup::RunCgroups;
use egress_sandbox::limits::Caps;
use egress_workspace::store::Store;

use super::agent_fds::AgentFds;
use super::error::{RunError, system};
use super::flows::FlowLog;
use super::init::Init;
use crate::bpf::Gates;
use crate::bpf::events::Events;

/// How long the kernel may take to close the connections of processes that have ended.
///
/// On the command's side, the kernel waits for no remote host, because the command's processes and the relay are gone
/// by then and both ends of each connection are on loopback. The mediator's own connections take as long as their
/// destination takes to answer.
const CLOSED_WITHIN: Duration = Duration::from_millis(200);

/// Maximum number of attempts or traffic records that are read before the next ring is read.
const TURN: usize = 256;
/// Maximum number of records with a text that are read in one turn. The ring cannot hold more of them, so one turn reads
/// every text that was submitted before the turn.
const TEXTS: usize = 2048;

/// A closed boundary. Each step passes the boundary on as a whole.
///
/// The fields are dropped in this order: first init, whose end also ends every process of the command; then the
/// cgroups, which end all other processes of the run; then the kernel programs; then the store of the workspace's
/// changes.
#[derive(Debug)]
pub(super) struct Boundary {
    pub(super) init: Init,
    pub(super) cgroups: RunCgroups,
    pub(super) caps: Caps,
    pub(super) gates: Gates,
    pub(super) events: Events,
    pub(super) agent_fds: AgentFds,
    pub(super) store: Option<Store>,
}

impl Boundary {
    /// Takes every record from the kernel's rings, and writes it to the flow log. The rings take turns, because
    /// otherwise a command that fills one ring as fast as it is read would make another one overflow.
    ///
    /// Rows of attempts contain host names. A name is always recorded before an attempt can use its address: the kernel
    /// submits the text with a name server's answer before the command receives this answer, and the relay reports a
    /// name before it answers the query. Each turn therefore takes the attempts out of their ring first, and writes
    /// them after `read_names` and all texts, so that the names of these attempts are known by then. `read_names`
    /// writes the names that the relay has reported.
    ///
    /// # Errors
    /// Fails if a row cannot be written, or `read_names` fails.
    pub(super) fn drain(
        &mut self,
        flows: &mut FlowLog,
        mut read_names: impl FnMut(&mut FlowLog) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        self.gates.flush_diagnostics();
        let events = &mut self.events;
        let mut is_more = true;
        while is_more {
            let attempts: Vec<_> = std::iter::from_fn(|| events.take()).take(TURN).collect();
            is_more = !attempts.is_empty();
            read_names(flows)?;
            for text in std::iter::from_fn(|| events.take_text()).take(TEXTS) {
                is_more = true;
                match text {
                    Ok(text) => system("write the flow log", flows.text(&text))?,
                    Err(_) => flows.malformed(),
                }
            }
            for event in attempts {
                match event {
                    Ok(event) => system("write the flow log", flows.kernel(&event))?,
                    Err(_) => flows.malformed(),
                }
            }
            // The traffic comes last, so that the close of a connection usually follows its connect.
            for traffic in std::iter::from_fn(|| events.take_traffic()).take(TURN) {
                is_more = true;
                match traffic {
                    Ok(traffic) => system("write the flow log", flows.traffic(&traffic))?,
                    Err(_) => flows.malformed(),
                }
            }
        }
        Ok(())
    }

    /// Reads the kernel's records up to the end of the mediator, and waits up to 200 ms for connections to close.
    ///
    /// A connection outlives its process when the kernel still has bytes or a FIN to deliver. The command's connections
    /// lead to the relay, which has ended. A socket of the relay with unread bytes sends a reset, and every other one
    /// sends a FIN. A reset and a FIN both end the command's orphan at once. The change to `TIME_WAIT` counts as the
    /// close, so the minute that a socket stays in this state does not matter. A connection of the mediator is an
    /// orphan until its destination acknowledges the FIN. If the acknowledgment takes too long, the row of the
    /// connection has `closed: false` and the bytes at the moment when the mediator closed it.
    ///
    /// # Errors
    /// Fails if a counter cannot be read or a row cannot be written.
    pub(super) fn drain_to_the_end(&mut self, flows: &mut FlowLog) -> Result<(), RunError> {
        const LOOK_EVERY: Duration = Duration::from_millis(1);
        let deadline = Instant::now() + CLOSED_WITHIN;
        loop {
            // The counter is read before the ring, so that the ring contains every close that was counted.
            let expected = self.gates.counter(Counter::CloseExpected)?;
            let is_closed = self.gates.counter(Counter::CloseSeen)? >= expected;
            self.drain(flows, |_| Ok(()))?;
            if (is_closed && !flows.has_open_mediator()) || Instant::now() >= deadline {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Returns the kernel's counters.
    ///
    /// # Errors
    /// Fails if a counter cannot be read.
    pub(super) fn counters(&self) -> io::Result<Counters> {
        let read = |counter| self.gates.counter(counter).map_err(io::Error::other);
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

    /// Waits for init, which was killed before, and takes its exit status.
    ///
    /// # Errors
    /// Fails if waiting for init fails, or init still runs after a second.
    pub(super) fn reap_init(&self) -> io::Result<()> {
        match self.init.child.wait_for(1000)? {
            Some(_) => Ok(()),
            None => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "init still runs 1 s after SIGKILL",
            )),
        }
    }
}
