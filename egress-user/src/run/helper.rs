//! The processes that the supervisor starts from this binary: how one starts, what is heard of it, how it ends.
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use egress_sys::fd::{self, Received};
use egress_sys::process::{Child, Placement, spawn_self};
use nix::sys::signal::Signal;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, setsockopt, socketpair};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::sys::wait::WaitStatus;

use super::error::{RunError, system};
use super::state::RunDir;

/// How long the boundary's init may take over one step.
const WORD_WITHIN_SECONDS: i64 = 30;

/// How long the relay and the mediator each may take to end in order.
pub(super) const END_WITHIN: Duration = Duration::from_secs(5);

/// A helper process with its control socket.
#[derive(Debug)]
pub(super) struct Helper {
    pub(super) name: &'static str,
    pub(super) child: Child,
    pub(super) control: OwnedFd,
}

impl Helper {
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

/// A connected pair of control sockets, ours first: it waits for a word, but not for ever.
pub(super) fn control_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    setsockopt(
        &ours,
        ReceiveTimeout,
        &TimeVal::seconds(WORD_WITHIN_SECONDS),
    )?;
    Ok((ours, theirs))
}

/// Waits for the next word of the boundary's init; an empty one means that it is gone.
pub(super) fn hear_init(control: &OwnedFd) -> Result<Received, RunError> {
    let heard = fd::receive(control, MsgFlags::empty()).map_err(|error| {
        if error.kind() != io::ErrorKind::WouldBlock {
            return error;
        }
        let text = format!("it said nothing for {WORD_WITHIN_SECONDS} s");
        io::Error::new(io::ErrorKind::TimedOut, text)
    });
    system("hear from the boundary's init", heard)
}

/// Starts this binary as `stage` with a plan and a control socket.
pub(super) fn spawn_helper(
    stage: CString,
    process: &'static str,
    memory: &OwnedFd,
    control: &OwnedFd,
    placement: Placement<'_>,
    keep: &[BorrowedFd<'_>],
    dir: &RunDir,
) -> Result<Child, RunError> {
    let spawned = (|| {
        let number = |fd: &OwnedFd| CString::new(fd.as_raw_fd().to_string());
        let args = [
            c"egress".to_owned(),
            stage,
            number(memory)?,
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
pub(super) fn ended_well(helper: &Helper) -> io::Result<()> {
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
