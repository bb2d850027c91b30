//! The supervisor's side of the boundary's init. Each step of the protocol is a method.
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use egress_sandbox::cgroup::RunCgroups;
use egress_sandbox::child::exec::STAGE;
use egress_sandbox::child::protocol::{FromInit, Sequence, StagePlan, ToInit};
use egress_sandbox::probe::Found;
use egress_sandbox::probe::scene::Scene;
use egress_sandbox::view::LeftOut;
use egress_sys::channel::{Channel, ChannelError, Received};
use egress_sys::privileges::Enforced;
use egress_sys::process::{Child, Placement};

use super::agent_fds::AgentFds;
use super::ending::NotExecuted;
use super::error::{RunError, in_words, system};
use super::helper::{end_of, no_message, spawn_process};
use super::state::RunDir;

const NAME: &str = "boundary's init";
/// Time that init may take for one step.
const STEP_WITHIN: Duration = Duration::from_secs(30);

/// The boundary's init.
#[derive(Debug)]
pub(super) struct Init {
    /// The process.
    pub(super) child: Child,
    channel: Channel<ToInit, FromInit>,
    sequence: Sequence,
}

/// The sockets that init created, in the order in which it passed them.
pub(super) struct PassedSockets {
    pub(super) fds: Vec<OwnedFd>,
    /// Whether a socket could be bound to `::1`.
    pub(super) ipv6: bool,
    /// Whether the stub resolver's sockets are among the sockets.
    pub(super) dns: bool,
}

/// The file view and the sockets that init created.
pub(super) struct Entered {
    pub(super) sockets: PassedSockets,
    /// Host mounts that are not in the file view.
    pub(super) left_out: Vec<LeftOut>,
    pub(super) agent_fds: AgentFds,
    /// The master of the command's terminal, if the plan requested one.
    pub(super) terminal: Option<OwnedFd>,
}

/// The result of starting the command.
pub(super) struct Started {
    /// The state of the command's process after it dropped its privileges, as the kernel reports this state.
    pub(super) enforced: Enforced,
    /// Why the command could not be executed.
    pub(super) not_executed: Option<NotExecuted>,
}

/// A message from init, or the end of init, while the command runs.
pub(super) enum InitMessage {
    /// The command has ended, with this status.
    Exited(i32),
    /// Init has ended. The text describes how init ended.
    Gone(String),
    /// A message that is not allowed at this time.
    Wrong(String),
}

/// Turns init's error text into an error.
pub(super) fn failed(text: String) -> RunError {
    RunError::Helper {
        process: NAME,
        text,
    }
}

impl Init {
    /// Starts init in the namespaces and the cgroup of the boundary.
    ///
    /// # Errors
    /// Fails if the process cannot be started.
    pub(super) fn start(
        plan: &StagePlan,
        cgroups: &RunCgroups,
        passed: &[BorrowedFd<'_>],
        dir: &RunDir,
    ) -> Result<Self, RunError> {
        // In an audit, the command keeps the host's network namespace.
        let kept = if plan.audit { !libc::CLONE_NEWNET } else { !0 };
        let placement = Placement {
            namespaces: u64::try_from(plan.layers.namespaces() & kept).unwrap_or_default(),
            cgroup: cgroups.agent.as_fd(),
        };
        let (child, channel) = spawn_process(NAME, STAGE, plan, placement, passed, dir)?;
        Ok(Self {
            child,
            channel,
            sequence: Sequence::Fresh,
        })
    }

    /// Waits until the file view and the sockets are ready.
    ///
    /// # Errors
    /// Fails if init fails, times out, or sends another message.
    pub(super) fn expect_entered(&mut self, dir: &RunDir) -> Result<Entered, RunError> {
        let Received { message, mut fds } = self.next(dir)?;
        let FromInit::Entered {
            ipv6,
            dns,
            left_out,
            held,
            terminal,
        } = message
        else {
            return Err(unexpected("Entered", &message));
        };
        let terminal = terminal.then(|| fds.pop()).flatten();
        let directories = fds.split_off(fds.len().saturating_sub(held.len()));
        let (number, expected) = (directories.len(), held.len());
        let agent_fds = AgentFds::new(held, directories).ok_or_else(|| {
            failed(format!(
                "expected {expected} directories, received {number}"
            ))
        })?;
        Ok(Entered {
            sockets: PassedSockets { fds, ipv6, dns },
            left_out,
            agent_fds,
            terminal,
        })
    }

    /// Makes init run the probes, and returns their observations.
    ///
    /// # Errors
    /// Fails if init fails, times out, or sends another message.
    pub(super) fn probe(
        &mut self,
        scene: Option<Box<Scene>>,
        dir: &RunDir,
    ) -> Result<Found, RunError> {
        let asked = self.channel.send(&ToInit::Probe { scene });
        system("request the probes", asked)?;
        let message = self.next(dir)?.message;
        let FromInit::Probed { found } = message else {
            return Err(unexpected("Probed", &message));
        };
        Ok(found)
    }

    /// Makes init start the command, and waits until it runs or cannot be executed.
    ///
    /// # Errors
    /// Fails if init fails, times out, or sends another message.
    pub(super) fn go(&mut self, dir: &RunDir) -> Result<Started, RunError> {
        system("start the command", self.channel.send(&ToInit::Go))?;
        let message = self.next(dir)?.message;
        let FromInit::Dropped(enforced) = message else {
            return Err(unexpected("Dropped", &message));
        };
        let message = self.next(dir)?.message;
        let not_executed = if let FromInit::NotExecuted(why) = message {
            Some(why)
        } else if message == FromInit::Started {
            None
        } else {
            return Err(unexpected("Started or NotExecuted", &message));
        };
        Ok(Started {
            enforced,
            not_executed,
        })
    }

    /// Sends a signal to the command. If init has ended, the message is lost, and [`Self::next_message`] reports the
    /// end of init.
    pub(super) fn signal(&self, number: i32) {
        drop(self.channel.send(&ToInit::Signal { number }));
    }

    /// Returns the next message from init while the command runs, if there is one.
    pub(super) fn next_message(&mut self) -> Option<InitMessage> {
        let gone = |why: String| Some(InitMessage::Gone(format!("{why}{}", end_of(&self.child))));
        let message = match self.channel.try_receive() {
            Ok(None) => return None,
            Ok(Some(received)) => received.message,
            Err(ChannelError::Ended) => return gone(format!("the {NAME} is gone")),
            Err(error) => return gone(format!("the {NAME}: {}", in_words(&error))),
        };
        match self.sequence.accept(&message) {
            Ok(next) => self.sequence = next,
            Err(error) => return Some(InitMessage::Wrong(error.to_string())),
        }
        let FromInit::Exited { status } = message else {
            let wrong = ChannelError::unexpected("Exited", &message);
            return Some(InitMessage::Wrong(format!("the {NAME}: {wrong}")));
        };
        Some(InitMessage::Exited(status))
    }

    /// Waits for the next message and checks its order. A failed step is an error.
    fn next(&mut self, dir: &RunDir) -> Result<Received<FromInit>, RunError> {
        let received = self.channel.receive_within(STEP_WITHIN);
        let received = received.map_err(|error| no_message(NAME, &error, dir))?;
        let accepted = self.sequence.accept(&received.message);
        self.sequence = accepted.map_err(|error: io::Error| failed(error.to_string()))?;
        if let FromInit::Failed { step, error } = &received.message {
            return Err(failed(format!("cannot {step}: {error}")));
        }
        Ok(received)
    }
}

impl AsFd for Init {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

fn unexpected(expected: &'static str, received: &FromInit) -> RunError {
    failed(ChannelError::unexpected(expected, received).to_string())
}
