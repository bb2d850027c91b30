//! Connects the command's standard streams to the caller's with pipes, which threads of the supervisor pump. The
//! command never receives the caller's own descriptors, because an inherited socket would bypass the hooks.
//!
//! If a CI system interprets the output, commands in the output are defused on the way. Under GitHub, these commands
//! are also switched off with a random word that is not disclosed to the command.
//!
//! Claims: read-output, channel-stream
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use audit_packet::format::boundary::Output;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::fstat;
use nix::unistd::{Gid, Uid, fchown, getpid, pipe2};

use super::plan::Input;
use super::state::random_hex;
use crate::ci_commands::{Defuser, Obeyed};

/// Both ends of the three pipes.
#[derive(Debug)]
pub(super) struct Pipes {
    ours: [OwnedFd; 3],
    agents: [OwnedFd; 3],
}

/// The threads that copy the command's output to the caller.
#[derive(Debug)]
pub(super) struct PipePumps {
    output: Vec<JoinHandle<io::Result<u64>>>,
    streams: Vec<Shared>,
    /// The word that switches the runner's commands on again.
    token: Option<String>,
}

/// The state of one of the caller's streams. Standard output and standard error share this state if they are the same
/// file.
type Shared = Arc<Mutex<Stream>>;

#[derive(Debug, Default)]
struct Stream {
    /// `None` if no CI system interprets the output.
    defuser: Option<Defuser>,
    /// Whether the last line has no line break.
    is_torn: bool,
}

impl Stream {
    fn write(&mut self, text: &[u8], to: &mut impl Write) -> io::Result<()> {
        if let Some(last) = text.last() {
            self.is_torn = *last != b'\n';
        }
        match &mut self.defuser {
            None => to.write_all(text)?,
            Some(defuser) => {
                let mut out = Vec::with_capacity(text.len() + 64);
                defuser.pass(text, &mut out);
                to.write_all(&out)?;
            }
        }
        to.flush()
    }
}

impl Pipes {
    /// Creates the pipes. The user `agent` owns the command's ends, because otherwise the command could not reopen
    /// `/dev/stderr`.
    ///
    /// # Errors
    /// Fails if a pipe cannot be created or given to the user.
    pub(super) fn new(agent: u32) -> io::Result<Self> {
        let (stdin, feed) = pipe2(OFlag::O_CLOEXEC)?;
        let (out, stdout) = pipe2(OFlag::O_CLOEXEC)?;
        let (err, stderr) = pipe2(OFlag::O_CLOEXEC)?;
        for end in [&stdin, &stdout, &stderr] {
            fchown(end, Some(Uid::from_raw(agent)), Some(Gid::from_raw(agent)))?;
        }
        Ok(Self {
            ours: [feed, out, err],
            agents: [stdin, stdout, stderr],
        })
    }

    /// Returns the command's ends.
    pub(super) fn agents(&self) -> [BorrowedFd<'_>; 3] {
        let [stdin, stdout, stderr] = &self.agents;
        [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]
    }

    /// Closes the command's ends here, and starts the threads.
    ///
    /// # Order
    /// Call this after the last fork of this process.
    ///
    /// # Errors
    /// Fails if the kernel provides no random bytes for the word.
    pub(super) fn pump(self, obeyed: Obeyed, input: Input) -> io::Result<PipePumps> {
        let [feed, out, err] = self.ours;
        drop(self.agents);
        let stream = || {
            let defuser = obeyed.commands.then(Defuser::default);
            let is_torn = false;
            Arc::new(Mutex::new(Stream { defuser, is_torn }))
        };
        let first = stream();
        // If both streams are the same file, half of one workflow command can be written to each of them.
        let second = if is_one_file()? {
            Arc::clone(&first)
        } else {
            stream()
        };
        let token = obeyed.stop_commands.then(random_hex::<16>).transpose()?;
        // If `stop-commands` cannot be written to the caller, the command's output is not passed on either.
        let begun = token.as_deref().map_or(Ok(()), |token| {
            drop(writeln!(
                io::stderr(),
                "egress: workflow commands in the command's output are switched off"
            ));
            writeln!(io::stdout(), "::stop-commands::{token}")?;
            io::stdout().flush()
        });
        let streams = vec![Arc::clone(&first), Arc::clone(&second)];
        // The thread is never joined, because it may wait for the caller's input as long as this process runs.
        std::thread::spawn(move || match input {
            Input::Caller => copy(io::stdin().lock(), &Shared::default(), File::from(feed)),
            Input::Lifeline => {
                drop(feed);
                wait_for_end()
            }
        });
        let output = vec![
            std::thread::spawn(move || {
                begun.and_then(|()| copy(File::from(out), &first, io::stdout()))
            }),
            std::thread::spawn(move || copy(File::from(err), &second, io::stderr())),
        ];
        Ok(PipePumps {
            output,
            streams,
            token,
        })
    }
}

/// Waits for the end of the caller's standard input, then ends the run.
fn wait_for_end() -> io::Result<u64> {
    let seen = io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    // The supervisor handles SIGTERM, so this call ends the run in the same way as a signal from a person.
    kill(getpid(), Signal::SIGTERM)?;
    Ok(seen)
}

/// Returns whether the caller's standard output and standard error are the same file.
fn is_one_file() -> io::Result<bool> {
    let (out, err) = (fstat(io::stdout())?, fstat(io::stderr())?);
    Ok((out.st_dev, out.st_ino) == (err.st_dev, err.st_ino))
}

impl PipePumps {
    /// Waits until all output has been passed on. Call this function when no process of the command is left, so that
    /// the pipes have ended. Without this call, the runner's commands stay switched off.
    ///
    /// # Errors
    /// Fails if the caller's stream could not be written. A pump that cannot write closes the command's pipe and ends.
    pub(super) fn finish(self) -> io::Result<Output> {
        let mut pumped = Output {
            stop_commands: self.token.is_some(),
            ..Output::default()
        };
        let mut failed = None;
        for pump in self.output {
            match pump.join() {
                Ok(Ok(bytes)) => pumped.bytes += bytes,
                Ok(Err(error)) => failed = Some(error),
                Err(_) => failed = Some(io::Error::other("a pump panicked")),
            }
        }
        let [out, err] = self.streams.as_slice() else {
            return Err(io::Error::other("there are two streams"));
        };
        let stream = out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = &self.token {
            let end = if stream.is_torn { "\n" } else { "" };
            writeln!(io::stdout(), "{end}::{token}::")?;
            io::stdout().flush()?;
        }
        let defused = |stream: &Stream| stream.defuser.as_ref().map(Defuser::defused);
        pumped.guarded = stream.defuser.is_some();
        pumped.defused = defused(&stream).unwrap_or_default();
        if !Arc::ptr_eq(out, err) {
            let stream = err.lock().unwrap_or_else(PoisonError::into_inner);
            pumped.defused += defused(&stream).unwrap_or_default();
        }
        failed.map_or(Ok(pumped), Err)
    }
}

/// Copies bytes to `to` until `from` ends. The bytes of every read are flushed, so that no byte stays in a buffer.
fn copy(mut from: impl Read, stream: &Shared, mut to: impl Write) -> io::Result<u64> {
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let text = buffer.get(..length).unwrap_or_default();
        stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(text, &mut to)?;
        total += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: read-output*
    #[test]
    fn a_long_line_is_read_in_pieces() {
        /// A reader of a line of a hundred megabytes, which stores the largest number of bytes that one call requested.
        struct Line {
            left: usize,
            most: usize,
        }
        impl Read for &mut Line {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = buffer.len().min(self.left);
                buffer.get_mut(..length).unwrap_or_default().fill(b'x');
                self.most = self.most.max(buffer.len());
                self.left -= length;
                Ok(length)
            }
        }
        for defuser in [None, Some(Defuser::default())] {
            let mut line = Line {
                left: 100 << 20,
                most: 0,
            };
            let stream = Stream {
                defuser,
                ..Stream::default()
            };
            let stream = Arc::new(Mutex::new(stream));
            let copied = copy(&mut line, &stream, io::sink()).unwrap();
            assert_eq!((copied, line.most), (100 << 20, 64 << 10));
        }
    }
}
