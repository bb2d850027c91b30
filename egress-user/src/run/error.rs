//! Why a run did not reach its end.
use std::io;
use std::path::PathBuf;

use egress_pipelock::PipelockError;
use egress_sandbox::probe::model::{ProbeOutcome, ProbeResult};
use pipelock_receipts::findings::visible;

use crate::bpf::BpfError;
use crate::causes::causes;

/// A failure of the machine, the boundary or the mediator: exit status 125.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Not started as root.
    #[error("egress run needs root: it makes namespaces, cgroups and kernel programs")]
    NotRoot,
    /// Root, but not of the machine.
    #[error("root lacks {} here: egress run makes namespaces, cgroups and kernel programs", .0.join(" and "))]
    Unprivileged(Vec<&'static str>),
    /// A directory or lock of the run's own state.
    #[error("cannot prepare {path}")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cgroups of the run.
    #[error("cannot make the run's cgroups")]
    Cgroup(#[source] io::Error),
    /// The workspace's mount.
    #[error("cannot mount the workspace {path} for the agent")]
    Workspace {
        /// The workspace.
        path: PathBuf,
        /// Why; `EINVAL` is a file system without idmapped mounts.
        #[source]
        source: io::Error,
    },
    /// A helper process could not be started.
    #[error("cannot start the {process}")]
    Spawn {
        /// Which.
        process: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel programs.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// A helper said that it cannot go on, or ended without a word.
    #[error("the {process} failed: {text}")]
    Helper {
        /// Which.
        process: &'static str,
        /// Its own words.
        text: String,
    },
    /// Probes inside the boundary reached what must not be reachable, or prove nothing.
    #[error("{}", open(.0))]
    Open(Vec<ProbeResult>),
    /// A real Pipelock is not ready to be the mediator.
    #[error("the mediator failed: cannot use Pipelock")]
    Pipelock(#[from] PipelockError),
    /// The packet could not be written.
    #[error("cannot write the packet to {path}; {kept}")]
    Packet {
        /// Its directory.
        path: PathBuf,
        /// What became of the evidence.
        kept: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A call of the supervisor itself.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl RunError {
    /// The error with its causes.
    pub fn on_one_line(&self) -> String {
        in_words(self)
    }

    /// What the reader can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotRoot => Some("start it with sudo"),
            Self::Unprivileged(_) => {
                Some("run the container privileged, or egress on the machine itself")
            }
            Self::State { .. } => {
                Some("the run keeps its state below /run/egress; it must be writable for root")
            }
            Self::Cgroup(_) => Some("mount a cgroup v2 tree: mount -t cgroup2 none /sys/fs/cgroup"),
            Self::Workspace { .. } => Some(
                "its file system must support idmapped mounts (ext4, xfs, btrfs, tmpfs since 6.3); \
                 --workspace apply and discard need Linux 5.19, direct and read-only 5.12; \
                 copy works everywhere",
            ),
            Self::Bpf(error) => Some(error.hint()),
            Self::Open(_) => Some(
                "nothing was run; --accept-risk NAME runs all the same, and the packet shows it",
            ),
            Self::Pipelock(_)
            | Self::Packet { .. }
            | Self::Spawn { .. }
            | Self::Helper { .. }
            | Self::System { .. } => None,
        }
    }
}

/// Formats an error and its causes on one line.
pub(super) fn in_words(error: &dyn std::error::Error) -> String {
    let words: Vec<String> = std::iter::once(error.to_string())
        .chain(causes(error))
        .collect();
    words.join(": ")
}

/// What is open, in words.
fn open(probes: &[ProbeResult]) -> String {
    let words = |probe: &ProbeResult| {
        let name = &probe.name;
        let detail = visible(&probe.detail);
        if probe.outcome != ProbeOutcome::ControlFailed {
            format!("probe {name} succeeded ({detail})")
        } else if probe.control.succeeded {
            format!("probe {name} could not be made ({detail})")
        } else {
            let detail = visible(&probe.control.detail);
            format!("probe {name} proves nothing, for its control failed ({detail})")
        }
    };
    let words: Vec<String> = probes.iter().map(words).collect();
    format!("the boundary is open: {}", words.join("; "))
}

/// Names a call of the supervisor that failed.
///
/// # Errors
/// The failure of `done`, with its name.
pub fn system<T>(what: &'static str, done: io::Result<T>) -> Result<T, RunError> {
    done.map_err(|source| RunError::System { what, source })
}
