//! Starts this program again as root, by `sudo`.
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{SigSet, Signal};

/// Signals that ask a step to end.
const ENDING: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];

/// Runs `argv`, gives it `input` and then an open pipe as standard input, and waits for its end. A
/// signal that asks this process to end closes the pipe: what `sudo` starts belongs to root and can
/// be told in no other way. The same happens when this process is killed.
///
/// # Order
/// While this process has one thread.
///
/// # Errors
/// When it cannot be started or waited for.
pub fn run<S: AsRef<OsStr>>(argv: &[S], input: &[u8]) -> io::Result<ExitStatus> {
    let (program, arguments) = argv
        .split_first()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut heard = SigSet::empty();
    for signal in ENDING {
        heard.add(signal);
    }
    heard.add(Signal::SIGCHLD);
    heard.thread_block()?;
    let mut child = start(program.as_ref(), arguments, heard)?;
    let mut pipe = child.stdin.take();
    if let Some(pipe) = &mut pipe {
        match pipe.write_all(input) {
            // It ended before it read; its status says why.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if heard.wait()? != Signal::SIGCHLD {
            drop(pipe.take());
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "sudo is the one foreign program that the product starts as the runner's user"
)]
fn start<S: AsRef<OsStr>>(program: &OsStr, arguments: &[S], blocked: SigSet) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped());
    let unblock = move || blocked.thread_unblock().map_err(io::Error::from);
    // SAFETY: between fork and exec the closure makes one system call, which is async-signal-safe,
    // on a value of its own; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(unblock) };
    command.spawn()
}
