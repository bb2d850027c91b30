//! `Running → Collected`: watches every process of the run, carries signals, reads both witnesses,
//! and when the agent is gone stops the rest in order.
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use egress_relay::plan::Report;
use egress_sandbox::child::exec::exec_status;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::collect::Collected;
use super::ending::Ending;
use super::error::{RunError, system};
use super::flows::FlowLog;
use super::heartbeat::Heart;
use super::ingest::take_report;
use super::init::Word;
use super::plan::Mode;
use super::reach::name_servers;
use super::running::Running;

/// How often the ring buffer is looked at: its events wake nobody.
const TICK: Duration = Duration::from_millis(2);
/// How long an agent may take to end after the first signal of a time-out.
const TERM_GRACE: Duration = Duration::from_secs(5);

/// How often the length of the receipts is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Reports of the relay that are read at one go.
const REPORTS: usize = 1024;

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
        let flows = FlowLog::create(&self.dir.path().join("flows.jsonl"), self.agent_root.take());
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

    /// Waits until a control socket has something to say, or for one tick.
    fn wait(&self, watch: &Watch) -> Result<[bool; 3], RunError> {
        let init = Some(self.init.as_fd());
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

    /// Reads one message of init; `Some` when the agent has ended or init is gone.
    fn hear_init(&mut self, watch: &Watch) -> Option<Ending> {
        match self.init.hear()? {
            Word::Exited(_) if watch.timed_out => Some(Ending::TimedOut),
            Word::Exited(status) => Some(Ending::Exited(status)),
            Word::Wrong(text) => Some(Ending::Failed(text)),
            Word::Gone(text) => Some(match (watch.timed_out, watch.killed) {
                (true, _) => Ending::TimedOut,
                (false, true) => Ending::Exited(128 + libc::SIGKILL),
                (false, false) => Ending::Failed(text),
            }),
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
            match relay.hear() {
                Ok(None) => break,
                Ok(Some(Report::Name(name))) => {
                    system("write the flow log", flows.name(&name))?;
                }
                Ok(Some(report)) => waiting.push(report),
                Err(text) => {
                    gone = Some(text);
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
                self.init.signal(number);
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
                self.init.signal(libc::SIGTERM);
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
}

fn evidence_length(dir: &Path) -> std::io::Result<u64> {
    let mut length = 0;
    for entry in std::fs::read_dir(dir)? {
        length += entry?.metadata()?.len();
    }
    Ok(length)
}
