//! Connects the command's terminal to the caller's (`--tty`). The command's terminal is a pseudoterminal in the devpts
//! of the boundary. The command never gets a descriptor of the caller's terminal, so no request of `ioctl(2)` can push
//! input into it. Bytes are passed on unchanged in both directions.
//!
//! A separate process sets the modes of the caller's terminal, because it can restore them even if the supervisor is
//! killed.
//!
//! Claims: terminal-apart, terminal-restored
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use audit_packet::format::boundary::Output;
use egress_sys::process::fork_with;
use egress_sys::terminal::{RawMode, copy_size};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2, setsid};

/// Ends sequences that a program left open, leaves the alternate screen, and resets character sets, attributes, colors,
/// margins, the cursor, keyboard modes, mouse reports, bracketed paste, and synchronized output. No sequence moves the
/// cursor (xterm, "Control Sequences").
const RESET: &[u8] = b"\x18\x1b\\\x1b[?1047l\x1b[!p\x1b[0m\x1b(B\x0f\x1b[2l\x1b[4l\x1b[20l\x1b[?1l\x1b>\x1b[?5l\x1b[?7h\
    \x1b[?25h\x1b[0 q\x1b[?9l\x1b[?1000l\x1b[?1001l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?1015l\
    \x1b[?1016l\x1b[?2004l\x1b[?2026l\x1b[>4;0m\x1b[=0u\x1b]104\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\\x1b]112\x1b\\";

/// How long the terminal must send nothing before its answers to the command's queries count as complete.
const QUIET_MS: u16 = 100;
/// Time limit for these answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// Time after which a terminal that the command closed is read again.
const CLOSED_MS: u16 = 10;

/// Facts about the command's output that decide how the terminal is restored.
#[derive(Debug, Clone, Copy, Default)]
struct Written {
    bytes: u64,
    /// Whether the last line has no line break.
    is_torn: bool,
    /// Whether a control sequence may have changed the terminal, or requested a reply from it.
    is_controlling: bool,
}

impl Written {
    fn add(&mut self, text: &[u8]) {
        self.bytes += text.len() as u64;
        self.is_torn = text.last().map_or(self.is_torn, |last| *last != b'\n');
        // These bytes are ESC, ENQ, the shifts of the character set, and the 8-bit control characters.
        let controls = |byte: &u8| matches!(byte, 0x05 | 0x0e | 0x0f | 0x1b | 0x80..=0x9f);
        self.is_controlling |= text.iter().any(controls);
    }

    /// Returns the message to the keeper.
    fn as_byte(self) -> u8 {
        u8::from(self.is_torn) | u8::from(self.is_controlling) << 1
    }
}

/// The command's terminal before its bytes are passed on.
#[derive(Debug)]
pub(super) struct Terminal {
    master: OwnedFd,
}

/// The threads that pass on the bytes of the command's terminal.
#[derive(Debug)]
pub(super) struct TerminalPumps {
    master: Arc<OwnedFd>,
    keeper: Keeper,
    /// The threads end when this end of a pipe is closed.
    stop: OwnedFd,
    input: JoinHandle<io::Result<()>>,
    output: JoinHandle<io::Result<Written>>,
}

impl Terminal {
    /// Takes the master of the command's terminal, and gives the terminal the caller's window size.
    ///
    /// # Errors
    /// Fails if the size cannot be read or set.
    pub(super) fn new(master: OwnedFd) -> io::Result<Self> {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        copy_size(&io::stdin(), &master)?;
        Ok(Self { master })
    }

    /// Puts the caller's terminal into raw mode, and starts the threads.
    ///
    /// # Order
    /// Call this while this process has a single thread.
    ///
    /// # Errors
    /// Fails if the caller's terminal cannot be put into raw mode.
    pub(super) fn pump(self) -> io::Result<TerminalPumps> {
        let master = Arc::new(self.master);
        let (stopped, stop) = pipe2(OFlag::O_CLOEXEC)?;
        let stopped = Arc::new(stopped);
        let keeper = Keeper::start()?;
        let input = (Arc::clone(&master), Arc::clone(&stopped));
        let output = (Arc::clone(&master), stopped);
        Ok(TerminalPumps {
            master,
            keeper,
            stop,
            input: std::thread::spawn(move || pass_input(&input.0, &input.1)),
            output: std::thread::spawn(move || pass_output(&output.0, &output.1)),
        })
    }
}

impl TerminalPumps {
    /// Gives the command's terminal the caller's window size, after it has changed.
    pub(super) fn resize(&self) {
        // A terminal that is gone has no size. The command then keeps the last size.
        drop(copy_size(&io::stdin(), &*self.master));
    }

    /// Passes on the rest of the output, and restores the caller's terminal. Call this function when no process of the
    /// command is left.
    ///
    /// # Errors
    /// Fails if the caller's terminal could not be written or restored.
    pub(super) fn finish(self) -> io::Result<Output> {
        drop(self.stop);
        let panicked = || io::Error::other("a thread of the terminal panicked");
        let written = self.output.join().map_err(|_panic| panicked());
        let input = self.input.join().map_err(|_panic| panicked());
        let written = written.and_then(|written| written);
        let ended = self.keeper.end(written.as_ref().ok().copied());
        input??;
        ended?;
        Ok(Output {
            bytes: written?.bytes,
            ..Output::default()
        })
    }
}

/// Waits until one of the descriptors is ready. Returns which descriptors are ready.
fn wait<const N: usize>(fds: [(BorrowedFd<'_>, PollFlags); N], wait: PollTimeout) -> [bool; N] {
    let mut fds = fds.map(|(fd, events)| PollFd::new(fd, events));
    let failed = loop {
        match poll(&mut fds, wait) {
            Err(Errno::EINTR) => {}
            // After another error, everything counts as ready, so that no thread waits forever.
            polled => break polled.is_err(),
        }
    };
    fds.map(|fd| failed || fd.revents().is_none_or(|events| !events.is_empty()))
}

/// Passes the caller's keys on to the command, until the run stops or the caller's terminal is gone.
fn pass_input(master: &OwnedFd, stopped: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let stdin = io::stdin();
    loop {
        let ready = [
            (stdin.as_fd(), PollFlags::POLLIN),
            (stopped.as_fd(), PollFlags::POLLIN),
        ];
        let [_, false] = wait(ready, PollTimeout::NONE) else {
            return Ok(());
        };
        let mut keys = match nix::unistd::read(&stdin, &mut buffer) {
            Err(Errno::EINTR) => continue,
            // The signal of a terminal that is gone reaches the command through the supervisor.
            Ok(0) | Err(_) => return Ok(()),
            Ok(length) => buffer.get(..length).unwrap_or_default(),
        };
        while !keys.is_empty() {
            match nix::unistd::write(master, keys) {
                Ok(length) => keys = keys.get(length..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let ready = [
                        (master.as_fd(), PollFlags::POLLOUT),
                        (stopped.as_fd(), PollFlags::POLLIN),
                    ];
                    let [_, false] = wait(ready, PollTimeout::NONE) else {
                        return Ok(());
                    };
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Passes the command's output on to the caller, until the run stops and everything is read. If the caller's terminal
/// cannot be written, the rest is dropped, and the first error is returned at the end.
fn pass_output(master: &OwnedFd, stopped: &OwnedFd) -> io::Result<Written> {
    let mut buffer = vec![0; 64 * 1024];
    let mut failed = None;
    let mut written = Written::default();
    let stop = (stopped.as_fd(), PollFlags::POLLIN);
    loop {
        let [_, is_over] = wait(
            [(master.as_fd(), PollFlags::POLLIN), stop],
            PollTimeout::NONE,
        );
        match nix::unistd::read(master, &mut buffer) {
            Err(Errno::EINTR) => {}
            Ok(length) if length > 0 => {
                let text = buffer.get(..length).unwrap_or_default();
                written.add(text);
                if failed.is_none() {
                    let mut to = io::stdout().lock();
                    failed = to.write_all(text).and_then(|()| to.flush()).err();
                }
            }
            _ if is_over => return failed.map_or(Ok(written), Err),
            // No process has the terminal open. A later one may open it again.
            Ok(_) | Err(Errno::EIO) => {
                wait([stop], PollTimeout::from(CLOSED_MS));
            }
            Err(Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The process that keeps the modes of the caller's terminal, and restores them when the supervisor closes the socket.
#[derive(Debug)]
struct Keeper {
    process: Pid,
    control: Option<File>,
}

impl Keeper {
    fn start() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
        let process = fork_with(theirs, &(), |control, ()| keep(&File::from(control)))?;
        let mut control = File::from(ours);
        let ready = control.read_exact(&mut [0]);
        let keeper = Self {
            process,
            control: Some(control),
        };
        ready.map_err(|error| {
            let text = format!("the terminal of egress cannot be put into raw mode: {error}");
            io::Error::new(error.kind(), text)
        })?;
        Ok(keeper)
    }

    /// Restores the terminal. `written` is `None` if it is not known what the command wrote.
    fn end(mut self, written: Option<Written>) -> io::Result<()> {
        let Some(mut control) = self.control.take() else {
            return Ok(());
        };
        let byte = written.map_or(3, Written::as_byte);
        control.write_all(&[byte])?;
        waitpid(self.process, None)?;
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if self.control.take().is_some() {
            let status = waitpid(self.process, None);
            debug_assert!(status.is_ok(), "the keeper is a child of this process");
        }
    }
}

/// The work of the keeper, whose standard streams are the caller's terminal.
fn keep(mut control: &File) -> io::Result<()> {
    // In a new session, no key and no hangup of the caller's terminal ends this process.
    setsid()?;
    let raw = RawMode::enter(io::stdin())?;
    control.write_all(b"r")?;
    let mut message = [0];
    let is_received = control.read(&mut message).is_ok_and(|length| length == 1);
    let (is_torn, is_controlling) = match message {
        [facts] if is_received => (facts & 1 != 0, facts & 2 != 0),
        // The supervisor was killed.
        _ => (true, true),
    };
    let mut end = Vec::new();
    if is_controlling {
        end.extend_from_slice(RESET);
    }
    if is_torn {
        end.extend_from_slice(b"\r\n");
    }
    let mut out = io::stdout().lock();
    // The modes are restored even if the terminal cannot be written.
    let shown = out.write_all(&end).and_then(|()| out.flush());
    // The caller's shell must not read a reply to the command's query as typed text. If the supervisor was killed, the
    // shell already reads, and its input must not be discarded.
    let discards = is_controlling && is_received;
    if discards {
        discard_answers();
    }
    raw.restore(discards).and(shown)
}

/// Discards input from the terminal until no more arrives.
fn discard_answers() {
    let began = Instant::now();
    let stdin = io::stdin();
    let mut buffer = [0; 4096];
    let input = [(stdin.as_fd(), PollFlags::POLLIN)];
    while began.elapsed() < ANSWERS_WITHIN && wait(input, PollTimeout::from(QUIET_MS)) == [true] {
        if !matches!(nix::unistd::read(&stdin, &mut buffer), Ok(1..)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_needs_no_reset_and_a_query_does() {
        let after = |text: &[u8]| {
            let mut written = Written::default();
            text.chunks(1).for_each(|byte| written.add(byte));
            (written.bytes, written.is_torn, written.is_controlling)
        };
        assert_eq!(after(b""), (0, false, false));
        assert_eq!(after(b"a\tb\r\n"), (5, false, false));
        assert_eq!(after(b"a\nb"), (3, true, false));
        for query in [b"\x1b[c\n".as_slice(), b"\x05\n", b"\x9bc\n"] {
            assert!(after(query).2, "{query:?}");
        }
    }
}
