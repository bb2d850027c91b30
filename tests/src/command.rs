//! Starts programs and waits for them with a time limit.
#![expect(
    clippy::disallowed_methods,
    reason = "end-to-end tests start the built binary and the programs of an agent"
)]
use std::ffi::OsStr;
use std::fmt;
use std::io::Read;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// The result of a program.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit status. `None` if a signal ended the program.
    pub status: Option<i32>,
    /// Signal that ended the program.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Whether the time limit ended the program.
    pub timed_out: bool,
    /// Time from the start to the end of the program.
    pub elapsed: Duration,
}

impl Output {
    /// Returns whether the program exited with 0.
    pub fn success(&self) -> bool {
        self.status == Some(0)
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let late = if self.timed_out {
            ", the time limit ended it"
        } else {
            ""
        };
        match (self.status, self.signal) {
            (Some(status), _) => writeln!(f, "exit status {status}{late}")?,
            (None, signal) => writeln!(f, "signal {}{late}", signal.unwrap_or(0))?,
        }
        write!(f, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr)
    }
}

/// Returns a command for `name` that inherits no environment variables of the test.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command
        .env_clear()
        // The PATH of a CI job, but without directories below a home directory. The command has its own account, which
        // could not read a directory in a home.
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8");
    command
}

/// A running program. Dropping the value ends the program and its process group, so that a failed test leaves no
/// process behind.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    started: Instant,
    ended: mpsc::Receiver<std::io::Result<ExitStatus>>,
    has_ended: bool,
    // `None` after the threads were joined.
    stdout: Option<thread::JoinHandle<String>>,
    stderr: Option<thread::JoinHandle<String>>,
}

/// Time between TERM and KILL.
const GRACE: Duration = Duration::from_secs(5);

impl Running {
    /// Starts `command` in a new process group.
    pub(crate) fn start(command: &mut Command) -> std::io::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        Ok(Self {
            pid,
            started: Instant::now(),
            ended: wait(child),
            has_ended: false,
            stdout: Some(stdout),
            stderr: Some(stderr),
        })
    }

    /// Returns the process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal to the program.
    ///
    /// # Panics
    /// Panics if the program has already ended.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("signal the program");
    }

    /// Waits for the end of the program. After `limit`, the program receives TERM, and five seconds later its group
    /// receives KILL.
    ///
    /// # Panics
    /// Panics if waiting fails.
    pub fn finish(mut self, limit: Duration) -> Output {
        let mut timed_out = false;
        let status = self.ended.recv_timeout(limit).or_else(|_| {
            timed_out = true;
            if_there(kill(self.pid, Signal::SIGTERM));
            self.ended.recv_timeout(GRACE)
        });
        let status = status.or_else(|_| {
            if_there(killpg(self.pid, Signal::SIGKILL));
            self.ended.recv()
        });
        let status = status
            .expect("wait for the program")
            .expect("wait for the program");
        self.has_ended = true;
        let elapsed = self.started.elapsed();
        // Remaining processes of the group may keep the pipes open.
        if timed_out {
            if_there(killpg(self.pid, Signal::SIGKILL));
        }
        Output {
            status: status.code(),
            signal: status.signal(),
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
            timed_out,
            elapsed,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // When the program has been waited for, its process id may belong to another process.
        if self.has_ended || self.ended.try_recv().is_ok() {
            return;
        }
        // The signal fails only if the program has just ended. A panic while a failed test unwinds would abort all
        // other tests.
        let ended =
            kill(self.pid, Signal::SIGTERM).is_err() || self.ended.recv_timeout(GRACE).is_ok();
        if !ended && killpg(self.pid, Signal::SIGKILL).is_ok() {
            drop(self.ended.recv());
        }
    }
}

/// Returns the output that a thread of [`collect`] read.
fn text(reader: Option<thread::JoinHandle<String>>) -> String {
    reader
        .and_then(|reader| reader.join().ok())
        .unwrap_or_default()
}

/// Ignores the error of a process that has already ended.
pub(crate) fn if_there(sent: nix::Result<()>) {
    match sent {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("cannot signal the program: {error}"),
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // The output before a read error is kept.
            drop(pipe.read_to_end(&mut bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait(mut child: Child) -> mpsc::Receiver<std::io::Result<ExitStatus>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        // No thread receives the status if the test has failed meanwhile.
        drop(send.send(child.wait()));
    });
    receive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_program_ends() {
        let running = Running::start(program("sleep").arg("600")).expect("start a program");
        let pid = running.pid();
        assert_eq!(kill(pid, None), Ok(()));
        drop(running);
        assert_eq!(kill(pid, None), Err(Errno::ESRCH));
    }
}
