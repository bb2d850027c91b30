//! The targets of probes and controls. Probes and controls use the same targets, so that the same
//! code runs on both sides.
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The side of the boundary on which a probe or control runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Inside, as the command.
    Inside,
    /// Outside, as root, where a control must succeed if its target exists.
    Outside,
}

/// A process, identified by number and start time, so that a later process with the same number is
/// not mistaken for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Process id in the pid namespace of the process that created this value.
    pub pid: i32,
    /// Start time in clock ticks since boot.
    pub started: u64,
}

impl Target {
    /// Finds the process with this number in the caller's pid namespace.
    ///
    /// # Errors
    /// Fails if the process is not visible or its `stat` file has no start time.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may contain any text. The start time is the twentieth word after
        // the last parenthesis.
        let started = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19))
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no start time")))?;
        Ok(Self { pid, started })
    }

    /// Returns the process id if a lookup of this number finds the same process here.
    ///
    /// # Errors
    /// Returns `ESRCH` if another process has the number, or the error of reading `/proc`.
    pub fn visible(self) -> io::Result<i32> {
        if Self::of(self.pid)? == self {
            Ok(self.pid)
        } else {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        }
    }
}

/// A file or directory, identified by inode, so that another file at the same path is not mistaken
/// for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owned {
    /// Absolute path.
    pub path: PathBuf,
    device: u64,
    inode: u64,
}

impl Owned {
    /// Returns the file that is at `path` now, if any.
    pub fn at(path: &Path) -> Option<Self> {
        let meta = path.metadata().ok()?;
        Some(Self {
            path: path.to_path_buf(),
            device: meta.dev(),
            inode: meta.ino(),
        })
    }

    /// Whether `meta` is the metadata of this file.
    pub fn is(&self, meta: &fs::Metadata) -> bool {
        (self.device, self.inode) == (meta.dev(), meta.ino())
    }
}

/// Processes that the command must not reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    /// The boundary's init.
    pub init: Target,
    /// The supervisor.
    pub supervisor: Target,
    /// A process that runs as the mediator's user.
    pub mediator: Target,
    /// A process that runs as the relay's user.
    pub relay: Target,
}

/// All targets of the probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// The side on which the probes run.
    pub side: Side,
    /// Processes that the command must not reach.
    pub targets: Targets,
    /// Name of an abstract socket of the host.
    pub abstract_name: String,
    /// A path socket of the host to which every user may connect.
    pub socket: PathBuf,
    /// A FIFO of the host that every user may open.
    pub fifo: PathBuf,
    /// Key of a System V segment of the host that every user may read.
    pub shm_key: i32,
    /// A file in the host's /dev/shm that every user may read.
    pub shm_file: PathBuf,
    /// Path sockets to which host processes are bound.
    pub host_sockets: Vec<PathBuf>,
    /// Sockets of the caller's ssh-agent.
    pub ssh_agent: Vec<PathBuf>,
    /// Sockets of the caller's gpg-agent.
    pub gpg_agent: Vec<PathBuf>,
    /// The signing key file, if the caller supplied one.
    pub signing_key: Option<Owned>,
    /// The policy file, if the caller supplied one.
    pub config: Option<Owned>,
    /// Whether the command may read the policy file.
    pub shows_config: bool,
    /// The run's directory, where the mediator writes its evidence.
    pub evidence: Option<Owned>,
    /// The packet directory.
    pub packet: Option<Owned>,
    /// The CI runner's command files.
    pub command_files: Vec<Owned>,
    /// Names of the CI runner's tokens in the caller's environment.
    pub tokens: Vec<String>,
    /// Names of the environment variables on this side.
    pub environment: Vec<String>,
    /// The parent of the run's cgroup.
    pub cgroup: PathBuf,
    /// Protocols that the kernel has loaded.
    pub protocols: Vec<String>,
    /// Whether opening a socket of another protocol would load a module into the host's kernel.
    pub loads_modules: bool,
}

impl Scene {
    /// Checks that a socket of `protocol`, named as in `/proc/net/protocols`, can be opened without
    /// loading a module into the host's kernel.
    ///
    /// # Errors
    /// Returns the reason why the socket must not be opened.
    pub fn has_protocol(&self, protocol: &str) -> Result<(), String> {
        if self.loads_modules && !self.protocols.iter().any(|one| one == protocol) {
            return Err(format!(
                "the module of {protocol} is not loaded, and opening a socket would load it into the host's kernel"
            ));
        }
        Ok(())
    }
}
