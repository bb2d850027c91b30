//! `Running → Ended`: watches every process of the run, passes on signals, and writes the flow log, until the command
//! has ended or the run cannot continue.
//!
//! Claims: limit-evidence
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::ending::Ending;
use super::error::{RunError, system};
use super::heartbeat::{Heartbeat, Watched};
use super::init::InitMessage;
use super::launch::{Live, Running};

/// Time during which the kernel's records collect in the ring buffers after each reading, so that a busy command does
/// not wake the supervisor for each record.
const GATHER: Duration = Duration::from_millis(2);
/// Longest sleep of the supervisor, because the limits on shared tables must be checked this often.
const SLEEP: Duration = Duration::from_millis(20);
/// Time that a command may take to end after the signal of a timeout.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// Interval between two checks of the size of the receipts.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Blocks the signals that the supervisor reads from a descriptor, for all threads that start later, and the signals
/// with which a terminal stops processes. A supervisor that is stopped could not record what the command does.
///
/// # Order
/// Call this before anything else, while the process has a single thread.
///
/// # Errors
/// Fails if the kernel rejects the mask.
pub fn block_signals() -> std::io::Result<()> {
    let mut blocked = watched_signals();
    for signal in [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU] {
        blocked.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&blocked), None)?;
    Ok(())
}

fn watched_signals() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGWINCH,
    ] {
        set.add(signal);
    }
    set
}

/// A run that is over: the command has ended, or must be ended because the run cannot continue.
#[derive(Debug)]
#[must_use = "processes of the run are still running"]
pub struct Ended {
    live: Live,
    heartbeat: Heartbeat,
    ending: Ending,
}

impl Ended {
    pub(super) fn into_parts(self) -> (Live, Heartbeat, Ending) {
        (self.live, self.heartbeat, self.ending)
    }
}

impl Running {
    /// Watches the run until its end.
    ///
    /// # Errors
    /// Fails if signals cannot be watched. The run then ends, because `self` is dropped.
    pub fn supervise(self) -> Result<Ended, RunError> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&watched_signals(), flags).map_err(Into::into);
        let signals = system("watch for signals", signals)?;
        let live = self.into_live();
        let began = Instant::now();
        let mut supervisor = Supervisor {
            deadline: live.context.plan.timeout.map(|timeout| began + timeout),
            heartbeat: Heartbeat::new(),
            signals,
            signaled: 0,
            look_at_evidence: began,
            timed_out: false,
            killed: false,
            is_busy: true,
            live,
        };
        let ending = match supervisor.live.command.not_executed.take() {
            Some(why) => Ending::NotExecuted(why),
            // If the supervisor fails, the rest of the run is still ended in the usual order.
            None => supervisor
                .watch()
                .unwrap_or_else(|error| Ending::Failed(error.on_one_line())),
        };
        let Supervisor {
            mut live,
            heartbeat,
            ..
        } = supervisor;
        live.context.timeline.mark("command ended");
        Ok(Ended {
            live,
            heartbeat,
            ending,
        })
    }
}

/// The state of the loop that supervises the command.
struct Supervisor {
    live: Live,
    heartbeat: Heartbeat,
    signals: SignalFd,
    signaled: u32,
    deadline: Option<Instant>,
    look_at_evidence: Instant,
    timed_out: bool,
    killed: bool,
    /// Whether something other than the end of the sleep ended the last wait.
    is_busy: bool,
}

/// The descriptors that are readable.
struct Readable {
    init: bool,
    relay: bool,
    mediator: bool,
}

impl Supervisor {
    fn watch(&mut self) -> Result<Ending, RunError> {
        loop {
            self.live.context.timeline.clock.read();
            let watched = Watched::of(&self.live.boundary, &self.live.command.enforced);
            let beat = self.heartbeat.beat(&mut self.live.flows, watched);
            let readable = self.wait()?;
            let live = &mut self.live;
            // The relay's reports are read even if the socket was not readable above, because a name may have arrived
            // since then, together with an attempt that uses its address.
            let failed = live
                .network
                .read_reports(&mut live.flows, &mut live.boundary)?;
            if !(readable.init || readable.relay || readable.mediator) {
                system("write the flow log", live.flows.catch_up())?;
            }
            if readable.init
                && let Some(ending) = self.read_init()
            {
                return Ok(ending);
            }
            let live = &mut self.live;
            let failed = match failed {
                Some(failed) => Some(failed),
                None => live.network.check(readable.mediator, &live.context.dir)?,
            };
            if let Some(failed) = failed {
                return Ok(Ending::Failed(failed));
            }
            // The heartbeat also fails when a process has ended. The end of the process is then the more useful reason,
            // so it is checked first.
            system("check the enforcement", beat)?;
            if let Some(full) = self.check_evidence()? {
                return Ok(Ending::Failed(full));
            }
            let live = &mut self.live;
            let taken = live.command.shares.look(&live.boundary.cgroups.agent);
            if let Some(too_much) =
                system("read how much of the shared tables the command uses", taken)?
            {
                return Ok(Ending::Failed(too_much));
            }
            self.pass_signals()?;
            self.check_deadline()?;
        }
    }

    /// Waits until a descriptor is readable, at most for [`SLEEP`]. If the last wait ended early, the ring buffers are
    /// left alone for [`GATHER`] first. The supervisor does not sleep while rows wait to be written.
    fn wait(&mut self) -> Result<Readable, RunError> {
        if self.is_busy || self.live.flows.is_behind() {
            let (readable, is_any) = self.poll(&[], GATHER)?;
            if is_any || self.live.flows.is_behind() {
                return Ok(readable);
            }
        }
        let rings = self.live.boundary.events.watched();
        let (readable, is_any) = self.poll(&rings, SLEEP)?;
        self.is_busy = is_any;
        Ok(readable)
    }

    /// Waits until a control socket, a signal, or one of `rings` is readable, at most for `most`. Returns the readable
    /// control sockets, and whether any descriptor is readable.
    fn poll(&self, rings: &[BorrowedFd<'_>], most: Duration) -> Result<(Readable, bool), RunError> {
        let [relay, mediator] = self.live.network.watched();
        let watched = [Some(self.live.boundary.init.as_fd()), relay, mediator];
        let others = rings.iter().copied().chain([self.signals.as_fd()]);
        let mut fds: Vec<PollFd<'_>> = watched
            .into_iter()
            .flatten()
            .chain(others)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let most = PollTimeout::try_from(most).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, most) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return system("watch the run", Err(errno.into())),
        }
        let is_ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        let is_any = fds.iter().any(is_ready);
        let mut ready = fds.iter().map(is_ready);
        // `fds` has the descriptors in the same order, without those that are absent.
        let [init, relay, mediator] =
            watched.map(|fd| fd.is_some() && ready.next().unwrap_or_default());
        let readable = Readable {
            init,
            relay,
            mediator,
        };
        Ok((readable, is_any))
    }

    /// Reads one message from init. Returns the ending if the command or init has ended.
    fn read_init(&mut self) -> Option<Ending> {
        match self.live.boundary.init.next_message()? {
            InitMessage::Exited(_) if self.timed_out => Some(Ending::TimedOut),
            InitMessage::Exited(status) => Some(Ending::Exited(status)),
            InitMessage::Wrong(text) => Some(Ending::Failed(text)),
            InitMessage::Gone(text) => Some(match (self.timed_out, self.killed) {
                (true, _) => Ending::TimedOut,
                (false, true) => Ending::Exited(128 + libc::SIGKILL),
                (false, false) => Ending::Failed(text),
            }),
        }
    }

    /// Passes the first signal on to the command. The second signal ends the command. A new window size is passed on to
    /// the command's terminal.
    fn pass_signals(&mut self) -> Result<(), RunError> {
        while let Some(info) = system(
            "read a signal",
            self.signals.read_signal().map_err(Into::into),
        )? {
            let number = i32::try_from(info.ssi_signo).unwrap_or(libc::SIGTERM);
            if number == libc::SIGWINCH {
                self.live.command.pumps.resize();
                continue;
            }
            // A key of the terminal, because another process would have another code.
            if info.ssi_code == libc::SI_KERNEL {
                self.live.context.timeline.interrupted();
            }
            self.signaled += 1;
            if self.signaled == 1 {
                self.live.boundary.init.signal(number);
            } else {
                self.kill()?;
            }
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<(), RunError> {
        self.killed = true;
        system("end the command", self.live.boundary.cgroups.agent.kill())
    }

    /// Returns a text if the evidence has reached its limit.
    fn check_evidence(&mut self) -> Result<Option<String>, RunError> {
        let live = &self.live;
        let most = live.context.plan.limits.evidence;
        let now = Instant::now();
        let mut length = live.flows.length();
        if length <= most && now < self.look_at_evidence {
            return Ok(None);
        }
        self.look_at_evidence = now + LOOK_EVERY;
        let receipts = live.network.evidence_length(&live.context.dir);
        length += system("read the size of the evidence", receipts)?;
        Ok((length > most)
            .then(|| format!("receipts and flow log reached {most} bytes (--max-evidence)")))
    }

    /// Signals the command when its time is over, and kills it [`TERM_GRACE`] later.
    fn check_deadline(&mut self) -> Result<(), RunError> {
        let now = Instant::now();
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        if self.timed_out {
            self.deadline = None;
            return self.kill();
        }
        self.timed_out = true;
        self.deadline = Some(now + TERM_GRACE);
        self.live.boundary.init.signal(libc::SIGTERM);
        Ok(())
    }
}
