//! Copies Pipelock's standard output and standard error to a file of bounded size, and keeps the end for error
//! messages.
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use egress_policy::hide;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

/// Size limit of the file. Later output is read and discarded, so that Pipelock does not block.
const FILE_BYTES: u64 = 4 << 20;
/// Number of bytes at the end that are kept for error messages.
const TAIL_BYTES: usize = 4096;
/// Maximum number of lines in an error message, and of characters in each line.
const SHOWN_LINES: usize = 6;
const SHOWN_LETTERS: usize = 300;
/// Size of the pipe, for output between two reads.
const PIPE_BYTES: i32 = 1 << 20;

/// The read end of the pipe with Pipelock's output.
#[derive(Debug)]
pub(super) struct Log {
    pipe: File,
    file: File,
    written: u64,
    tail: Vec<u8>,
}

impl Log {
    /// Creates the file at `path` and a pipe. Returns the log and the write end of the pipe.
    pub(super) fn create(path: &Path) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(ours.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // An error is ignored, because a smaller pipe suffices. The supervisor reads the pipe at least every 20 ms.
        fcntl(ours.as_fd(), FcntlArg::F_SETPIPE_SZ(PIPE_BYTES)).unwrap_or_default();
        let log = Self {
            pipe: ours.into(),
            file: File::options().create(true).append(true).open(path)?,
            written: 0,
            tail: Vec::new(),
        };
        Ok((log, theirs))
    }

    /// Reads the output that is available.
    pub(super) fn drain(&mut self) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = self.pipe.read(&mut buffer) {
            let bytes = buffer.get(..length).unwrap_or_default();
            if self.written < FILE_BYTES {
                self.written += u64::try_from(length).unwrap_or(FILE_BYTES);
                // A log that cannot be written does not end the run.
                drop(self.file.write_all(bytes));
            }
            self.tail.extend(bytes);
            let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
            self.tail.drain(..surplus);
        }
    }

    /// Returns the end of the output on one line. Values of the caller's policy are hidden, because Pipelock may print
    /// them.
    pub(super) fn last_words(&mut self, caller_yaml: Option<&str>) -> String {
        self.drain();
        let mut tail = self.tail.as_slice();
        if tail.len() == TAIL_BYTES {
            // An incomplete first line may begin with a part of a value.
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

    /// Returns whether the end of the output contains the line `words`.
    pub(super) fn ends_with_line(&mut self, words: &str) -> bool {
        self.drain();
        String::from_utf8_lossy(&self.tail)
            .lines()
            .any(|line| line.trim() == words)
    }
}
