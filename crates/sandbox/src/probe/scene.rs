//! What the attempts aim at: the same on both sides, so that one piece of code makes both.
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The side of the boundary on which attempts are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// As the agent, inside.
    Inside,
    /// As root, outside: everything has to succeed.
    Outside,
}

/// A process, told from others of its number by when it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Number, in the host's namespace.
    pub pid: i32,
    /// Start in ticks since boot.
    pub started: u64,
}

impl Target {
    /// The process of this number, as the calling one sees it.
    ///
    /// # Errors
    /// When it is not visible.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may hold anything; the start is the twentieth word after it.
        let started = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19))
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no start")))?;
        Ok(Self { pid, started })
    }

    /// Fails unless the process is visible here under its own number.
    ///
    /// # Errors
    /// When it is not.
    pub fn visible(self) -> io::Result<i32> {
        if Self::of(self.pid)? == self {
            Ok(self.pid)
        } else {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        }
    }
}

/// A file or directory, told from others of its name by its inode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owned {
    /// Absolute path.
    pub path: PathBuf,
    device: u64,
    inode: u64,
}

impl Owned {
    /// What is at `path` now, if anything.
    pub fn at(path: &Path) -> Option<Self> {
        let meta = path.metadata().ok()?;
        Some(Self {
            path: path.to_path_buf(),
            device: meta.dev(),
            inode: meta.ino(),
        })
    }

    /// Whether `meta` is of the same file.
    pub fn is(&self, meta: &fs::Metadata) -> bool {
        (self.device, self.inode) == (meta.dev(), meta.ino())
    }
}

/// Processes that must be out of reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    /// The boundary's init.
    pub init: Target,
    /// The supervisor.
    pub supervisor: Target,
    /// One with the mediator's user.
    pub mediator: Target,
    /// One with the relay's user.
    pub relay: Target,
}

/// Everything that attempts aim at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// Where the attempts are made.
    pub side: Side,
    /// Processes.
    pub targets: Targets,
    /// An abstract socket of the host.
    pub abstract_name: String,
    /// A path socket of the host that every user may connect to.
    pub socket: PathBuf,
    /// Such a FIFO.
    pub fifo: PathBuf,
    /// Key of a System V segment of the host that every user may read.
    pub shm_key: i32,
    /// Such a file in /dev/shm.
    pub shm_file: PathBuf,
    /// Path sockets that host processes are bound to.
    pub host_sockets: Vec<PathBuf>,
    /// Where the caller's ssh-agent listens.
    pub ssh_agent: Vec<PathBuf>,
    /// Where its gpg-agent does.
    pub gpg_agent: Vec<PathBuf>,
    /// The key file that was named.
    pub signing_key: Option<Owned>,
    /// The policy that was named.
    pub config: Option<Owned>,
    /// The run's directory, where the mediator keeps its evidence.
    pub evidence: Option<Owned>,
    /// The packet's directory.
    pub packet: Option<Owned>,
    /// Files through which the caller speaks to its runner.
    pub command_files: Vec<Owned>,
    /// Names of the runner's tokens in the caller's environment.
    pub tokens: Vec<String>,
    /// Names of the environment on this side.
    pub environment: Vec<String>,
    /// The cgroup that the run's own lies in.
    pub cgroup: PathBuf,
    /// Protocols that the kernel has loaded.
    pub protocols: Vec<String>,
    /// Whether a socket of another protocol would load a module into the host's kernel.
    pub loads_modules: bool,
}

impl Scene {
    /// Whether a socket of `protocol`, as `/proc/net/protocols` calls it, can be tried without
    /// loading anything into the host's kernel.
    ///
    /// # Errors
    /// When it cannot.
    pub fn has_protocol(&self, protocol: &str) -> Result<(), String> {
        if self.loads_modules && !self.protocols.iter().any(|one| one == protocol) {
            return Err(format!(
                "{protocol} is not loaded, and a try would load it into the host's kernel"
            ));
        }
        Ok(())
    }
}
