//! Starts egress again as root through `sudo`.
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{SigSet, Signal};

/// Termination signals.
const ENDING: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];

/// Runs `argv`, writes `input` to its standard input, keeps that pipe open, and waits until the program ends. A
/// termination signal closes the pipe. Processes that `sudo` starts run as root, and this process cannot signal them,
/// so they must end when the pipe closes. The pipe also closes when this process is killed.
///
/// # Order
/// Call this while the process has one thread.
///
/// # Errors
/// Fails if `argv` is empty, or the program cannot be started, written to, or waited for.
pub fn run<S: AsRef<OsStr>>(argv: &[S], input: &[u8]) -> io::Result<ExitStatus> {
    let (program, arguments) = argv
        .split_first()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut awaited = SigSet::empty();
    for signal in ENDING {
        awaited.add(signal);
    }
    awaited.add(Signal::SIGCHLD);
    awaited.thread_block()?;
    let mut child = start(program.as_ref(), arguments, awaited)?;
    let mut pipe = child.stdin.take();
    if let Some(pipe) = &mut pipe {
        match pipe.write_all(input) {
            // The program ended before it read its input. The program's exit status explains the reason.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if awaited.wait()? != Signal::SIGCHLD {
            drop(pipe.take());
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "sudo is the only external program that egress starts as the calling user"
)]
fn start<S: AsRef<OsStr>>(program: &OsStr, arguments: &[S], blocked: SigSet) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped());
    let unblock = move || blocked.thread_unblock().map_err(io::Error::from);
    // SAFETY: between fork and exec, the closure makes one system call on its own value. The call
    // is async-signal-safe. The closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(unblock) };
    command.spawn()
}
