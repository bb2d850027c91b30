//! What Pipelock writes on its standard streams: to a file of bounded length, the last of it at hand.
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use egress_policy::hide;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

/// The file gets no longer; what follows is read and dropped, so that Pipelock never waits.
const FILE_BYTES: u64 = 4 << 20;
/// How much of the end is kept for messages.
const TAIL_BYTES: usize = 4096;
/// Lines of it that a message shows, and the letters of each.
const SHOWN_LINES: usize = 6;
const SHOWN_LETTERS: usize = 300;
/// Room for what is written while nobody reads.
const PIPE_BYTES: i32 = 1 << 20;

/// The reading end.
#[derive(Debug)]
pub(super) struct Log {
    pipe: File,
    file: File,
    written: u64,
    tail: Vec<u8>,
}

impl Log {
    /// Makes the file at `path` and a pipe into it; gives the writing end too.
    pub(super) fn create(path: &Path) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(ours.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // A smaller pipe does too: it is read every few milliseconds.
        fcntl(ours.as_fd(), FcntlArg::F_SETPIPE_SZ(PIPE_BYTES)).unwrap_or_default();
        let log = Self {
            pipe: ours.into(),
            file: File::options().create(true).append(true).open(path)?,
            written: 0,
            tail: Vec::new(),
        };
        Ok((log, theirs))
    }

    /// Takes what there is.
    pub(super) fn drain(&mut self) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = self.pipe.read(&mut buffer) {
            let bytes = buffer.get(..length).unwrap_or_default();
            if self.written < FILE_BYTES {
                self.written += u64::try_from(length).unwrap_or(FILE_BYTES);
                // A log that cannot be written is no reason to end a run.
                drop(self.file.write_all(bytes));
            }
            self.tail.extend(bytes);
            let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
            self.tail.drain(..surplus);
        }
    }

    /// Its last words, on one line, without the values of the caller's policy: it may repeat them.
    pub(super) fn last_words(&mut self, caller_yaml: Option<&str>) -> String {
        self.drain();
        let mut tail = self.tail.as_slice();
        if tail.len() == TAIL_BYTES {
            // Half a line may begin with half a value.
            let end = tail.iter().position(|byte| *byte == b'\n');
            tail = end.and_then(|end| tail.get(end..)).unwrap_or_default();
        }
        let text = hide::values(&String::from_utf8_lossy(tail), caller_yaml);
        let lines: Vec<String> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| line.chars().take(SHOWN_LETTERS).collect())
            .collect();
        let shown = lines
            .get(lines.len().saturating_sub(SHOWN_LINES)..)
            .unwrap_or_default();
        if shown.is_empty() {
            String::from("(nothing)")
        } else {
            shown.join("; ")
        }
    }

    /// Whether it has said `words` near the end.
    pub(super) fn ends_with_line(&mut self, words: &str) -> bool {
        self.drain();
        String::from_utf8_lossy(&self.tail)
            .lines()
            .any(|line| line.trim() == words)
    }
}
