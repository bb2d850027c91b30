//! Processes that the supervisor starts from this binary: their start, their messages, and their end.
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use egress_sys::channel::{Channel, ChannelError};
use egress_sys::fd;
use egress_sys::process::{self, Child, Placement, spawn_self};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{RunError, in_words, system};
use super::state::RunDir;

/// How long a helper may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// How long the relay and the mediator each may take to end normally.
pub(super) const END_WITHIN: Duration = Duration::from_secs(5);

/// A helper process with its control socket. The process sends messages of type `R` and receives only the end.
#[derive(Debug)]
pub(super) struct Helper<R> {
    pub(super) name: &'static str,
    pub(super) child: Child,
    pub(super) control: Channel<(), R>,
}

impl<R: DeserializeOwned> Helper<R> {
    /// Starts this binary as `stage`.
    ///
    /// # Errors
    /// Returns the errors of [`spawn_process`].
    pub(super) fn start(
        name: &'static str,
        stage: &CStr,
        plan: &impl Serialize,
        cgroup: BorrowedFd<'_>,
        passed: &[BorrowedFd<'_>],
        dir: &RunDir,
    ) -> Result<Self, RunError> {
        let placement = Placement {
            namespaces: 0,
            cgroup,
        };
        let (child, control) = spawn_process(name, stage, plan, placement, passed, dir)?;
        Ok(Self {
            name,
            child,
            control,
        })
    }

    /// Waits for the first message, which `judge` must accept.
    ///
    /// # Errors
    /// Fails if no message arrives in time, or `judge` rejects it.
    pub(super) fn wait_ready(
        &self,
        dir: &RunDir,
        judge: impl FnOnce(&R) -> Result<(), String>,
    ) -> Result<(), RunError> {
        let first = self.control.receive_within(READY_WITHIN);
        let first = first.map_err(|error| no_message(self.name, &error, dir))?;
        judge(&first.message).map_err(|text| RunError::Helper {
            process: self.name,
            text,
        })
    }

    /// Returns the next message, if one has arrived.
    ///
    /// # Errors
    /// Returns a text if the process has ended or its message cannot be parsed.
    pub(super) fn next_message(&self) -> Result<Option<R>, String> {
        match self.control.try_receive() {
            Ok(received) => Ok(received.map(|received| received.message)),
            Err(ChannelError::Ended) => Err(format!("the {} is gone{}", self.name, self.end())),
            Err(error) => Err(format!("the {}: {}", self.name, in_words(&error))),
        }
    }

    /// Returns how the process ended, in the form of [`end_of`].
    pub(super) fn end(&self) -> String {
        end_of(&self.child)
    }
}

/// Returns how a process ended, in parentheses after a space. Returns an empty text if the status cannot be read.
pub(super) fn end_of(child: &Child) -> String {
    // The kernel closes the sockets of a process shortly before its status can be read.
    const SOON_MS: u16 = 100;
    match child.peek(SOON_MS) {
        Ok(Some(WaitStatus::Signaled(_, signal, _))) => format!(" (ended by {signal})"),
        Ok(Some(WaitStatus::Exited(_, status))) => format!(" (exit status {status})"),
        Ok(_) | Err(_) => String::new(),
    }
}

/// Turns a missing message into an error. If the process ended or timed out, the end of its log is appended.
pub(super) fn no_message(process: &'static str, error: &ChannelError, dir: &RunDir) -> RunError {
    let mut text = in_words(error);
    if matches!(error, ChannelError::Ended | ChannelError::Silent(_)) {
        text = format!("{text}: {}", dir.log_tail(process));
    }
    RunError::Helper { process, text }
}

/// Starts this binary as `stage` and returns the process and the supervisor's end of its control socket. The process
/// inherits its plan, its end of the socket, and `passed`.
///
/// # Errors
/// Returns [`RunError::System`] if the socket cannot be created. Returns [`RunError::Spawn`] with the name of the
/// process if the plan cannot be written or the process cannot be started.
pub(super) fn spawn_process<S, R>(
    process: &'static str,
    stage: &CStr,
    plan: &impl Serialize,
    placement: Placement<'_>,
    passed: &[BorrowedFd<'_>],
    dir: &RunDir,
) -> Result<(Child, Channel<S, R>), RunError> {
    let (control, theirs) = system("create a control socket", Channel::pair())?;
    let plan = serde_json::to_vec(plan).map_err(io::Error::from);
    let plan = plan.and_then(|text| fd::memory_file(c"egress-plan", &text));
    let plan = plan.map_err(|source| RunError::Spawn { process, source })?;
    let own = [plan.as_fd(), theirs.as_fd()];
    let keep = [&own, passed].concat();
    let spawned = (|| {
        let [plan, control] = own.map(|fd| CString::new(fd.as_raw_fd().to_string()));
        let args = [c"egress".to_owned(), stage.to_owned(), plan?, control?];
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let log = dir.log(process)?;
        let streams = [null.as_fd(), null.as_fd(), log.as_fd()];
        spawn_self(&args, placement, &keep, streams)
    })();
    let child = spawned.map_err(|source| RunError::Spawn { process, source })?;
    Ok((child, control))
}

/// Waits for the end of a helper. Kills a helper that does not end within [`END_WITHIN`].
pub(super) fn ended_well<R>(helper: &Helper<R>) -> io::Result<()> {
    let wait = u16::try_from(END_WITHIN.as_millis()).unwrap_or(u16::MAX);
    match helper.child.wait_for(wait)? {
        Some(WaitStatus::Exited(_, 0)) => Ok(()),
        Some(status) => {
            let end = process::describe_end(status);
            Err(io::Error::other(format!("it ended with {end}")))
        }
        None => {
            helper.child.signal(Signal::SIGKILL);
            helper.child.wait_for(1000)?;
            Err(io::Error::other(format!(
                "it did not end within {} seconds and was killed",
                END_WITHIN.as_secs()
            )))
        }
    }
}
