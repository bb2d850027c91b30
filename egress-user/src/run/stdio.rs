//! The agent's standard streams: pipes that the supervisor pumps, never the caller's own
//! descriptors, through which an inherited socket would escape every hook.
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, fchown, pipe2};

/// Both ends of the three pipes.
#[derive(Debug)]
pub struct Pipes {
    ours: [OwnedFd; 3],
    agents: [OwnedFd; 3],
}

/// The pumps that carry the agent's output to the caller.
#[derive(Debug)]
pub struct Pumps {
    output: Vec<JoinHandle<io::Result<u64>>>,
}

impl Pipes {
    /// Makes the pipes; the agent's ends belong to it, or it could not reopen `/dev/stderr`.
    ///
    /// # Errors
    /// Those of `pipe2(2)` and `fchown(2)`.
    pub fn new(agent: u32) -> io::Result<Self> {
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
    pub fn agents(&self) -> [BorrowedFd<'_>; 3] {
        let [stdin, stdout, stderr] = &self.agents;
        [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]
    }

    /// Closes the agent's ends here and starts to pump.
    ///
    /// # Order
    /// After the last fork of this process: pumping takes threads.
    pub fn pump(self) -> Pumps {
        let [feed, out, err] = self.ours;
        drop(self.agents);
        // Never joined: it may wait for the caller's input for as long as this process lives.
        std::thread::spawn(move || copy(io::stdin().lock(), File::from(feed)));
        let output = vec![
            std::thread::spawn(move || copy(File::from(out), io::stdout())),
            std::thread::spawn(move || copy(File::from(err), io::stderr())),
        ];
        Pumps { output }
    }
}

impl Pumps {
    /// Waits until all output has been passed on. Call it when no process of the agent is left, so
    /// that the pipes have ended.
    ///
    /// # Errors
    /// When the caller's stream could not be written; the agent saw a closed pipe then.
    pub fn finish(self) -> io::Result<u64> {
        let mut bytes = 0;
        for pump in self.output {
            let pumped = pump.join();
            bytes += pumped.unwrap_or_else(|_| Err(io::Error::other("a pump panicked")))?;
        }
        Ok(bytes)
    }
}

/// Copies until the end, flushing each read, so that nothing waits in a buffer.
fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<u64> {
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(buffer.get(..length).unwrap_or_default())?;
        to.flush()?;
        total += length as u64;
    }
}
