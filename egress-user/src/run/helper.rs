//! The processes that the supervisor starts from this binary: how one starts, what is heard of it, how it ends.
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use egress_sys::channel::{Channel, ChannelError};
use egress_sys::fd;
use egress_sys::process::{Child, Placement, spawn_self};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{RunError, in_words, system};
use super::state::RunDir;

/// How long a helper may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// How long the relay and the mediator each may take to end in order.
pub(super) const END_WITHIN: Duration = Duration::from_secs(5);

/// A helper process with its control socket, on which it says `R` and hears nothing but the end.
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
    /// When the process cannot be made.
    pub(super) fn start(
        name: &'static str,
        stage: &CStr,
        plan: &impl Serialize,
        cgroup: BorrowedFd<'_>,
        passed: Vec<BorrowedFd<'_>>,
        dir: &RunDir,
    ) -> Result<Self, RunError> {
        let (control, theirs) = system("make a control socket", Channel::pair())?;
        let theirs: Channel<R, ()> = theirs;
        let memory = plan_memory(plan)?;
        let mut keep = vec![memory.as_fd(), theirs.as_fd()];
        keep.extend(passed);
        let placement = Placement {
            namespaces: 0,
            cgroup,
        };
        let stage = stage.to_owned();
        let child = spawn_helper(stage, name, &memory, theirs.as_fd(), placement, &keep, dir)?;
        Ok(Self {
            name,
            child,
            control,
        })
    }

    /// Waits for its first message, which `judge` finds to be the right one.
    ///
    /// # Errors
    /// When nothing comes in time, or something else does.
    pub(super) fn wait_ready(
        &self,
        dir: &RunDir,
        judge: impl FnOnce(&R) -> Result<(), String>,
    ) -> Result<(), RunError> {
        let first = self.control.receive_within(READY_WITHIN);
        let first = first.map_err(|error| no_word(self.name, &error, dir))?;
        judge(&first.message).map_err(|text| RunError::Helper {
            process: self.name,
            text,
        })
    }

    /// Its next message, if it has sent one.
    ///
    /// # Errors
    /// In words, when it is gone or cannot be understood.
    pub(super) fn hear(&self) -> Result<Option<R>, String> {
        match self.control.try_receive() {
            Ok(received) => Ok(received.map(|received| received.message)),
            Err(ChannelError::Ended) => Err(format!("the {} is gone{}", self.name, self.end())),
            Err(error) => Err(format!("the {}: {}", self.name, in_words(&error))),
        }
    }

    /// How the process ended, to follow the words that it is gone.
    pub(super) fn end(&self) -> String {
        end_of(&self.child)
    }
}

/// How a process that is gone came to its end; nothing when that is not known.
pub(super) fn end_of(child: &Child) -> String {
    // Its sockets are closed a moment before its status can be had.
    const SOON_MS: u16 = 100;
    match child.peek(SOON_MS) {
        Ok(Some(WaitStatus::Signaled(_, signal, _))) => format!(" (ended by {signal})"),
        Ok(Some(WaitStatus::Exited(_, status))) => format!(" (exit status {status})"),
        Ok(_) | Err(_) => String::new(),
    }
}

/// Why a process said nothing; one that has ended may have left a reason in its log.
pub(super) fn no_word(process: &'static str, error: &ChannelError, dir: &RunDir) -> RunError {
    let mut text = in_words(error);
    if matches!(error, ChannelError::Ended | ChannelError::Silent(_)) {
        text = format!("{text}: {}", dir.log_tail(process));
    }
    RunError::Helper { process, text }
}

/// A memory file with the plan of a process.
pub(super) fn plan_memory(plan: &impl Serialize) -> Result<OwnedFd, RunError> {
    let text = serde_json::to_vec(plan).map_err(io::Error::from);
    let memory = text.and_then(|text| fd::memory_file(c"egress-plan", &text));
    system("write the plan of a process", memory)
}

/// Starts this binary as `stage` with a plan and a control socket.
pub(super) fn spawn_helper(
    stage: CString,
    process: &'static str,
    memory: &OwnedFd,
    control: BorrowedFd<'_>,
    placement: Placement<'_>,
    keep: &[BorrowedFd<'_>],
    dir: &RunDir,
) -> Result<Child, RunError> {
    let spawned = (|| {
        let number = |fd: BorrowedFd<'_>| CString::new(fd.as_raw_fd().to_string());
        let args = [
            c"egress".to_owned(),
            stage,
            number(memory.as_fd())?,
            number(control)?,
        ];
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let log = dir.log(process)?;
        spawn_self(
            &args,
            placement,
            keep,
            [null.as_fd(), null.as_fd(), log.as_fd()],
        )
    })();
    spawned.map_err(|source| RunError::Spawn { process, source })
}

/// Waits for the end of a helper, and kills one that does not end.
pub(super) fn ended_well<R>(helper: &Helper<R>) -> io::Result<()> {
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
