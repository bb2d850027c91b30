//! `Running → Collected`: watches every process of the run, carries signals, reads both witnesses,
//! and when the agent is gone stops the rest in order.
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use egress_relay::plan::Report;
use egress_sandbox::cgroup::RunCgroups;
use egress_sandbox::child::exec::exec_status;
use egress_sandbox::child::protocol::{FromInit, Sequence, ToInit};
use egress_sandbox::limits::Caps;
use egress_sandbox::shares;
use egress_sys::privileges::Enforced;
use egress_sys::process::Child;
use egress_sys::{fd, handover};
use egress_workspace::apply::Recovered;
use egress_workspace::store::Store;
use egress_workspace::users::UserLease;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::MsgFlags;

use super::collect::Collected;
use super::error::{RunError, system};
use super::flows::FlowLog;
use super::heartbeat::{Heart, Watched};
use super::held::Held;
use super::inside::Inside;
use super::launch::{Helper, end_of};
use super::mediator::Mediator;
use super::plan::{Mode, Plan};
use super::prepare::Measured;
use super::reach::{Reach, name_servers};
use super::state::RunDir;
use super::stdio::Pumps;
use super::timeline::Timeline;
use crate::bpf::Gates;
use crate::bpf::events::Events;

/// How often the ring buffer is looked at: its events wake nobody.
const TICK: Duration = Duration::from_millis(2);
/// How long an agent may take to end after the first signal of a time-out.
const TERM_GRACE: Duration = Duration::from_secs(5);

/// How often the length of the receipts is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Records of one ring that are read before the next one has its turn.
const TURN: usize = 256;

/// Reports of the relay that are read at one go.
const REPORTS: usize = 1024;

/// How the agent came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this status (128 + signal for a signal).
    Exited(i32),
    /// It was never executed: 126 or 127.
    NotExecuted(i32),
    /// The time-out ended it.
    TimedOut,
    /// Something that the boundary rests on failed, and the agent was ended for it.
    Failed(String),
}

/// A run in progress. Fields drop in this order: the agent first, the gates after all processes.
#[derive(Debug)]
#[must_use = "the agent is running"]
pub struct Running {
    pub(super) control: OwnedFd,
    pub(super) init: Child,
    pub(super) relay: Option<Helper>,
    pub(super) mediator: Mediator,
    pub(super) cgroups: RunCgroups,
    pub(super) caps: Caps,
    pub(super) gates: Gates,
    pub(super) events: Events,
    /// None in an audit, which has no mediator.
    pub(super) reach: Option<Reach>,
    pub(super) pumps: Pumps,
    pub(super) shares: shares::Watch,
    pub(super) held: Held,
    pub(super) inside: Option<Inside>,
    pub(super) users: UserLease,
    pub(super) store: Option<Store>,
    pub(super) recovered: Vec<Recovered>,
    pub(super) measured: Measured,
    pub(super) enforced: Enforced,
    pub(super) not_executed: Option<i32>,
    pub(super) sequence: Sequence,
    pub(super) started_at: String,
    pub(super) timeline: Timeline,
    pub(super) dir: RunDir,
    pub(super) plan: Plan,
}

/// Blocks the signals that the supervisor reads from a descriptor, for all threads to come.
///
/// # Order
/// First thing, while this process has one thread.
///
/// # Errors
/// Those of `sigprocmask(2)`.
pub fn block_signals() -> std::io::Result<()> {
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&watched_signals()), None)?;
    Ok(())
}

fn watched_signals() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        set.add(signal);
    }
    set
}

/// What the loop keeps between two looks.
struct Watch {
    flows: FlowLog,
    heart: Heart,
    signals: SignalFd,
    signalled: u32,
    deadline: Option<Instant>,
    look_at_evidence: Instant,
    timed_out: bool,
    killed: bool,
}

impl Running {
    /// Waits for the end of the agent, whatever brings it, and stops everything else in order.
    ///
    /// # Errors
    /// When watching cannot begin; dropping `self` ends the run then.
    pub fn supervise(mut self) -> Result<Collected, RunError> {
        let began = Instant::now();
        let flows = FlowLog::create(&self.dir.path().join("flows.jsonl"), self.inside.take());
        let mut flows = system("start the flow log", flows)?;
        if self.plan.mode == Mode::Audit {
            flows.audit(system("read the caller's name servers", name_servers())?);
        }
        let mut watch = Watch {
            flows,
            heart: Heart::new(),
            signals: system(
                "watch for signals",
                SignalFd::with_flags(
                    &watched_signals(),
                    SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
                )
                .map_err(Into::into),
            )?,
            signalled: 0,
            look_at_evidence: began,
            deadline: self.plan.timeout.map(|timeout| began + timeout),
            timed_out: false,
            killed: false,
        };
        let ending = match self.not_executed {
            Some(errno) => Ending::NotExecuted(exec_status(errno)),
            // Whatever the supervisor cannot do any more, the rest is ended in order.
            None => self
                .watch(&mut watch)
                .unwrap_or_else(|error| Ending::Failed(error.on_one_line())),
        };
        self.timeline.mark("command ended");
        Ok(self.collect(ending, watch.flows, watch.heart))
    }

    fn watch(&mut self, watch: &mut Watch) -> Result<Ending, RunError> {
        loop {
            self.timeline.clock.look();
            let beat = watch.heart.beat(&mut watch.flows, self.watched());
            let [init, relay, mediator] = self.wait(watch)?;
            let failed = if relay {
                self.hear_relay(&mut watch.flows)?
            } else {
                self.drain_events(&mut watch.flows)?;
                None
            };
            if !(init || relay || mediator) {
                system("write the flow log", watch.flows.catch_up())?;
            }
            if init && let Some(ending) = self.hear_init(watch) {
                return Ok(ending);
            }
            if let Some(failed) = failed {
                return Ok(Ending::Failed(failed));
            }
            if mediator && let Some(failed) = self.mediator.hear(&self.dir) {
                return Ok(Ending::Failed(failed));
            }
            if let Some(failed) = self.mediator.look() {
                return Ok(Ending::Failed(failed));
            }
            // After what is gone: that would be the reason.
            system("look at the enforcement", beat)?;
            if let Some(reach) = &mut self.reach {
                system("note the machine's own addresses", reach.look())?;
            }
            if let Some(full) = self.check_evidence(watch)? {
                return Ok(Ending::Failed(full));
            }
            let taken = self.shares.look(&self.cgroups.agent);
            if let Some(too_much) = system("count what the command took", taken)? {
                return Ok(Ending::Failed(too_much));
            }
            self.pass_signals(watch)?;
            self.check_deadline(watch)?;
        }
    }

    pub(super) fn watched(&self) -> Watched<'_> {
        Watched::of(&self.gates, &self.cgroups.agent, &self.init, &self.enforced)
    }

    /// Waits until a control socket has something to say, or for one tick.
    fn wait(&self, watch: &Watch) -> Result<[bool; 3], RunError> {
        let init = Some(self.control.as_fd());
        let relay = self.relay.as_ref().map(|relay| relay.control.as_fd());
        let watched = [init, relay, self.mediator.watched()];
        let signals = Some(watch.signals.as_fd());
        let mut fds: Vec<PollFd<'_>> = watched
            .into_iter()
            .chain([signals])
            .flatten()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let tick = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, tick) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return system("watch the run", Err(errno.into())),
        }
        let mut ready = fds
            .iter()
            .map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        // In the order in which they were put together.
        Ok(watched.map(|fd| fd.is_some() && ready.next().unwrap_or_default()))
    }

    pub(super) fn drain_events(&mut self, flows: &mut FlowLog) -> Result<(), RunError> {
        drain(&mut self.gates, &mut self.events, flows)
    }

    /// Reads one message of init; `Some` when the agent has ended or init is gone.
    fn hear_init(&mut self, watch: &Watch) -> Option<Ending> {
        let gone = || match (watch.timed_out, watch.killed) {
            (true, _) => Ending::TimedOut,
            (false, true) => Ending::Exited(128 + libc::SIGKILL),
            (false, false) => {
                Ending::Failed(format!("the boundary's init is gone{}", end_of(&self.init)))
            }
        };
        let received = match fd::receive(&self.control, MsgFlags::MSG_DONTWAIT) {
            Ok(received) if !received.bytes.is_empty() => received,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
            Ok(_) | Err(_) => return Some(gone()),
        };
        let Ok(message) = serde_json::from_slice::<FromInit>(&received.bytes) else {
            return Some(gone());
        };
        match self.sequence.accept(&message) {
            Ok(next) => self.sequence = next,
            Err(error) => return Some(Ending::Failed(error.to_string())),
        }
        match message {
            FromInit::Exited { .. } if watch.timed_out => Some(Ending::TimedOut),
            FromInit::Exited { status } => Some(Ending::Exited(status)),
            other @ (FromInit::Entered { .. }
            | FromInit::Probed { .. }
            | FromInit::Dropped(_)
            | FromInit::Started
            | FromInit::NotExecuted { .. }
            | FromInit::Failed { .. }) => Some(Ending::Failed(format!(
                "the boundary's init said {other:?}"
            ))),
        }
    }

    /// Reads what the relay has to say, and the kernel's events with it: names first, which the
    /// events are told by, and last what became of the connections that are in the events. `Some`
    /// when the relay failed or is gone.
    fn hear_relay(&mut self, flows: &mut FlowLog) -> Result<Option<String>, RunError> {
        let mut waiting = Vec::new();
        let mut gone = None;
        let Some(relay) = &self.relay else {
            return self.drain_events(flows).map(|()| None);
        };
        for _ in 0..REPORTS {
            match relay_report(relay, MsgFlags::MSG_DONTWAIT) {
                Ok(None) => break,
                Ok(Some(Report::Name(name))) => {
                    system("write the flow log", flows.name(&name))?;
                }
                Ok(Some(report)) => waiting.push(report),
                Err(text) => {
                    gone = Some(format!("{text}{}", relay.end()));
                    break;
                }
            }
        }
        self.drain_events(flows)?;
        for report in waiting {
            if let Some(failed) = take_report(flows, report)? {
                return Ok(Some(failed));
            }
        }
        Ok(gone)
    }

    /// The first signal reaches the agent, a second one ends it.
    fn pass_signals(&mut self, watch: &mut Watch) -> Result<(), RunError> {
        while let Some(info) = system(
            "read a signal",
            watch.signals.read_signal().map_err(Into::into),
        )? {
            watch.signalled += 1;
            if watch.signalled == 1 {
                let number = i32::try_from(info.ssi_signo).unwrap_or(libc::SIGTERM);
                self.tell_init(&ToInit::Signal { number });
            } else {
                watch.killed = true;
                system("end the agent", self.cgroups.agent.kill())?;
            }
        }
        Ok(())
    }

    /// Says so when the evidence has got as long as it may.
    fn check_evidence(&self, watch: &mut Watch) -> Result<Option<String>, RunError> {
        let most = self.plan.limits.evidence;
        let now = Instant::now();
        let mut length = watch.flows.length();
        if length <= most && now < watch.look_at_evidence {
            return Ok(None);
        }
        watch.look_at_evidence = now + LOOK_EVERY;
        // In an audit nobody writes any.
        if self.plan.mode == Mode::Enforce {
            length += system(
                "look at the evidence",
                evidence_length(&self.dir.evidence()),
            )?;
        }
        Ok((length > most)
            .then(|| format!("receipts and flow log reached {most} bytes (--max-evidence)")))
    }

    fn check_deadline(&mut self, watch: &mut Watch) -> Result<(), RunError> {
        let now = Instant::now();
        match watch.deadline {
            Some(deadline) if now >= deadline && !watch.timed_out => {
                watch.timed_out = true;
                watch.deadline = Some(now + TERM_GRACE);
                self.tell_init(&ToInit::Signal {
                    number: libc::SIGTERM,
                });
                Ok(())
            }
            Some(deadline) if now >= deadline => {
                watch.deadline = None;
                watch.killed = true;
                system("end the agent", self.cgroups.agent.kill())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// An init that is gone is noticed by its socket; a message to it is then no matter.
    fn tell_init(&self, message: &ToInit) {
        drop(handover::send_message(&self.control, message));
    }
}

/// Moves every record that the kernel has written into the flow log. The rings take turns: a command that makes
/// connections as fast as one ring is read must not let another one fill up.
pub(super) fn drain(
    gates: &mut Gates,
    events: &mut Events,
    flows: &mut FlowLog,
) -> Result<(), RunError> {
    gates.flush_diagnostics();
    let mut is_more = true;
    while is_more {
        is_more = false;
        // Names before the connections that are told by them.
        for text in std::iter::from_fn(|| events.take_text()).take(TURN) {
            is_more = true;
            match text {
                Ok(text) => system("write the flow log", flows.text(&text))?,
                Err(_) => flows.malformed(),
            }
        }
        for event in std::iter::from_fn(|| events.take()).take(TURN) {
            is_more = true;
            match event {
                Ok(event) => system("write the flow log", flows.kernel(&event))?,
                Err(_) => flows.malformed(),
            }
        }
        // Last, so that the close of a connection mostly follows its connect.
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

fn evidence_length(dir: &Path) -> std::io::Result<u64> {
    let mut length = 0;
    for entry in std::fs::read_dir(dir)? {
        length += entry?.metadata()?.len();
    }
    Ok(length)
}

/// One report of the relay; `Ok(None)` when it has nothing to say now, `Err` when it is gone.
pub(super) fn relay_report(relay: &Helper, flags: MsgFlags) -> Result<Option<Report>, String> {
    match fd::receive(&relay.control, flags) {
        Ok(received) if !received.bytes.is_empty() => serde_json::from_slice(&received.bytes)
            .map(Some)
            .map_err(|error| format!("the relay said what nobody understands: {error}")),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Ok(_) => Err(String::from("the relay is gone")),
        Err(error) => Err(format!("the relay is gone: {error}")),
    }
}

/// Puts one report into the log; `Some` when the relay says that it failed.
pub(super) fn take_report(flows: &mut FlowLog, report: Report) -> Result<Option<String>, RunError> {
    match report {
        Report::Ready => Ok(Some(String::from("the relay started twice"))),
        Report::Failed { error } => Ok(Some(format!("the relay failed: {error}"))),
        Report::Flow(flow) => system("write the flow log", flows.relay(&flow)).map(|()| None),
        Report::Name(name) => system("write the flow log", flows.name(&name)).map(|()| None),
    }
}
