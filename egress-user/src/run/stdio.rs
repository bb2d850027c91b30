//! The agent's standard streams: pipes that the supervisor pumps, never the caller's own
//! descriptors, through which an inherited socket would escape every hook. Under a CI system that obeys
//! its log, what passes is made harmless on the way, twice over under GitHub: switched off by a word
//! that the agent cannot know, and defused.
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
use crate::neutralise::{Defuser, Obeyed};

/// Both ends of the three pipes.
#[derive(Debug)]
pub(super) struct Pipes {
    ours: [OwnedFd; 3],
    agents: [OwnedFd; 3],
}

/// The pumps that carry the agent's output to the caller.
#[derive(Debug)]
pub(super) struct Pumps {
    output: Vec<JoinHandle<io::Result<u64>>>,
    streams: Vec<Shared>,
    /// Switches the runner's commands on again.
    token: Option<String>,
}

/// What is known of a stream of the caller's; one for both where both are the same file.
type Shared = Arc<Mutex<Stream>>;

#[derive(Debug, Default)]
struct Stream {
    /// `None` where nobody obeys.
    defuser: Option<Defuser>,
    /// Whether its last line has no end.
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
    /// Makes the pipes; the agent's ends belong to it, or it could not reopen `/dev/stderr`.
    ///
    /// # Errors
    /// Those of `pipe2(2)` and `fchown(2)`.
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

    /// The agent's ends.
    pub(super) fn agents(&self) -> [BorrowedFd<'_>; 3] {
        let [stdin, stdout, stderr] = &self.agents;
        [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]
    }

    /// Closes the agent's ends here and starts to pump.
    ///
    /// # Order
    /// After the last fork of this process: pumping takes threads.
    ///
    /// # Errors
    /// When the kernel has no randomness for the word that switches commands on again.
    pub(super) fn pump(self, obeyed: Obeyed, input: Input) -> io::Result<Pumps> {
        let [feed, out, err] = self.ours;
        drop(self.agents);
        let stream = || {
            let defuser = obeyed.commands.then(Defuser::default);
            let is_torn = false;
            Arc::new(Mutex::new(Stream { defuser, is_torn }))
        };
        let first = stream();
        // Two halves of a command, one on each stream, are a command where both are one.
        let second = if is_one_file()? {
            Arc::clone(&first)
        } else {
            stream()
        };
        let token = obeyed.stop_commands.then(random_hex::<16>).transpose()?;
        // A caller that cannot be told gets nothing to obey either.
        let begun = token.as_deref().map_or(Ok(()), |token| {
            drop(writeln!(
                io::stderr(),
                "egress: workflow commands in the command's output are switched off"
            ));
            writeln!(io::stdout(), "::stop-commands::{token}")?;
            io::stdout().flush()
        });
        let streams = vec![Arc::clone(&first), Arc::clone(&second)];
        // Never joined: it may wait for the caller's input for as long as this process lives.
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
        Ok(Pumps {
            output,
            streams,
            token,
        })
    }
}

/// Waits for the end of standard input, which asks for the end of the run.
fn wait_for_end() -> io::Result<u64> {
    let seen = io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    // The supervisor reads its signals; this one is as good as a person's.
    kill(getpid(), Signal::SIGTERM)?;
    Ok(seen)
}

/// Whether the caller's standard output and standard error are one file.
fn is_one_file() -> io::Result<bool> {
    let (out, err) = (fstat(io::stdout())?, fstat(io::stderr())?);
    Ok((out.st_dev, out.st_ino) == (err.st_dev, err.st_ino))
}

impl Pumps {
    /// Waits until all output has been passed on. Call it when no process of the agent is left, so
    /// that the pipes have ended. When it is not called, commands stay switched off.
    ///
    /// # Errors
    /// When the caller's stream could not be written; the agent saw a closed pipe then.
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

/// Copies until the end, flushing each read, so that nothing waits in a buffer.
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
