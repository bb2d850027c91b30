//! Stops a process of a run at its first instruction, however fast the machine is.
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};
use nix::sys::signal::Signal;

use crate::command::program as command;
use crate::processes::{Process, wait_until};

/// A copy of a program whose executions can be stopped.
pub struct HoldAtExec {
    program: PathBuf,
    watch: Fanotify,
}

impl HoldAtExec {
    /// Copies `program` to `copy`, so that executions of the original are not stopped.
    ///
    /// # Panics
    /// Panics if the program cannot be copied or watched.
    pub fn new(program: &Path, copy: PathBuf) -> Self {
        // A separate program makes the copy. Otherwise, a child that another thread starts meanwhile would inherit the
        // descriptor, and a file that is open for writing cannot be executed.
        let status = command("cp").arg(program).arg(&copy).status();
        let status = status.expect("start cp");
        assert!(status.success(), "copy {}: {status}", program.display());
        let init = InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let events = EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC;
        let watch = Fanotify::init(init, events).expect("watch executions");
        let mask = MaskFlags::FAN_OPEN_EXEC_PERM;
        watch
            .mark(MarkFlags::FAN_MARK_ADD, mask, AT_FDCWD, Some(&copy))
            .expect("watch the copy");
        Self {
            program: copy,
            watch,
        }
    }

    /// Returns the path of the copy.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Stops the first process that executes the copy with `stage` as its first argument. The kernel delays an
    /// execution until this thread allows it (fanotify(7), `FAN_OPEN_EXEC_PERM`). A signal that is sent during the
    /// delay is delivered before the first instruction. All other executions continue.
    ///
    /// # Panics
    /// The thread panics if no such process appears within `limit`.
    pub fn hold(self, stage: &'static str, limit: Duration) -> JoinHandle<Process> {
        thread::spawn(move || {
            let deadline = Instant::now() + limit;
            loop {
                let mut held = None;
                for process in self.executions(deadline) {
                    if process.argument(1).as_deref() == Some(stage.as_bytes()) {
                        held = Some(process);
                    } else {
                        process.signal(Signal::SIGCONT);
                    }
                }
                if let Some(held) = held {
                    return held;
                }
                assert!(Instant::now() < deadline, "no {stage} within {limit:?}");
            }
        })
    }

    /// Returns the processes that executed the copy since the last call. Each process is stopped at its first
    /// instruction.
    fn executions(&self, deadline: Instant) -> Vec<Process> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut ready = [PollFd::new(self.watch.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, timeout).expect("wait for an execution");
        let events = match self.watch.read_events() {
            Err(Errno::EAGAIN) => Vec::new(),
            events => events.expect("read executions"),
        };
        let mut stopped = Vec::new();
        for event in &events {
            let process = Process::with_id(event.pid()).expect("a process that waits");
            process.signal(Signal::SIGSTOP);
            let file = event.fd().expect("the program that is executed");
            self.watch
                .write_response(FanotifyResponse::new(file, Response::FAN_ALLOW))
                .expect("let the execution continue");
            wait_until("it is stopped", Duration::from_secs(10), || {
                process.state() == Some('T')
            });
            stopped.push(process);
        }
        stopped
    }
}
