//! Keeps directories of the file view open, so that the supervisor can read them when no process of the command is
//! left: the replacements of the runner's command files, and the scratch space.
//!
//! Claims: step-values, read-step-files
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use audit_packet::format::boundary::CommandFile;
use egress_sandbox::view::{COMMAND_FILES, COMMAND_FILES_BYTES};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::fstatfs;

use super::digest::sha256;

/// Maximum number of variable names that are recorded for one file.
const MOST_KEYS: usize = 50;
/// Maximum number of characters that are recorded of a variable name.
const LONGEST_KEY: usize = 80;

/// Paths in the file view, each with a descriptor of its directory.
#[derive(Debug, Default)]
pub(super) struct AgentFds(Vec<(PathBuf, OwnedFd)>);

impl AgentFds {
    /// Pairs each path with its descriptor. Returns `None` if the numbers of paths and descriptors differ.
    pub(super) fn new(paths: Vec<PathBuf>, fds: Vec<OwnedFd>) -> Option<Self> {
        (paths.len() == fds.len()).then(|| Self(paths.into_iter().zip(fds).collect()))
    }

    fn directory(&self, wanted: &str) -> Option<&OwnedFd> {
        let found = self.0.iter().find(|(path, _)| path == Path::new(wanted));
        found.map(|(_, fd)| fd)
    }

    /// Returns the files among `names` that are not empty.
    ///
    /// # Errors
    /// Fails if one of the files cannot be opened or read.
    pub(super) fn command_files(&self, names: &[&str]) -> io::Result<Vec<CommandFile>> {
        let Some(dir) = self.directory(COMMAND_FILES) else {
            return Ok(Vec::new());
        };
        let mut written = Vec::new();
        for name in names {
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let file = File::from(openat(dir, *name, flags, Mode::empty())?);
            let bytes = file.metadata()?.len();
            let mut text = Vec::new();
            // The size of this tmpfs limits the data of a file, but not the length of a sparse file, so at most this many
            // bytes are read.
            file.take(COMMAND_FILES_BYTES).read_to_end(&mut text)?;
            if bytes > 0 {
                written.push(CommandFile {
                    name: (*name).into(),
                    bytes,
                    sha256: (bytes <= COMMAND_FILES_BYTES).then(|| sha256(&text).into()),
                    keys: keys(name, &text),
                });
            }
        }
        Ok(written)
    }
}

impl AgentFds {
    /// Returns the directories that are full.
    ///
    /// # Errors
    /// Fails if the size of a file system cannot be read.
    pub(super) fn full(&self) -> io::Result<Vec<PathBuf>> {
        let mut full = Vec::new();
        for (path, fd) in &self.0 {
            let stat = fstatfs(fd)?;
            if stat.blocks_available() == 0 || stat.files_free() == 0 {
                full.push(path.clone());
            }
        }
        Ok(full)
    }
}

/// Returns the names that `NAME=value` and `NAME<<END … END` set. A summary and a list of paths contain no names.
fn keys(file: &str, text: &[u8]) -> Vec<String> {
    if matches!(file, "GITHUB_PATH" | "GITHUB_STEP_SUMMARY") {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(text);
    let mut keys = BTreeSet::new();
    let mut end: Option<&str> = None;
    for line in text.lines() {
        if let Some(word) = end {
            if line == word {
                end = None;
            }
            continue;
        }
        let equals = line.find('=');
        let heredoc = line.find("<<");
        let key = match (equals, heredoc) {
            (Some(equals), heredoc) if heredoc.is_none_or(|at| equals < at) => line.get(..equals),
            (_, Some(at)) => {
                end = line.get(at + 2..);
                line.get(..at)
            }
            _ => None,
        };
        if let Some(key) = key
            && keys.len() < MOST_KEYS
        {
            keys.insert(key.chars().take(LONGEST_KEY).collect());
        }
    }
    keys.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recorded_and_values_are_not() {
        let text = b"A=secret\nB<<END\nsecret=1\nC=secret\nEND\nD=x<<y\nnonsense\n";
        assert_eq!(keys("GITHUB_ENV", text), ["A", "B", "D"]);
        assert!(keys("GITHUB_PATH", b"/secret=1\n").is_empty());
    }
}
