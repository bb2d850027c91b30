//! Errors that end a run.
use std::io;
use std::path::PathBuf;

use egress_pipelock::PipelockError;
use egress_sandbox::probe::model::{ProbeOutcome, ProbeResult};
use nix::errno::Errno;
use pipelock_receipts::findings::visible;

use crate::bpf::BpfError;
use crate::causes::causes;

/// An error that ends a run. The exit status is 125, unless [`RunError::is_usage`] returns true.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The caller is not root.
    #[error(
        "egress run needs root, because it creates namespaces and cgroups and loads kernel programs"
    )]
    NotRoot,
    /// The caller is root only in a user namespace.
    #[error("this process is root only in a user namespace")]
    UserNamespace,
    /// The caller is root without these capabilities, for example in a container.
    #[error("root lacks {} here, which egress run needs for namespaces, cgroups, and kernel programs", .0.join(" and "))]
    Unprivileged(Vec<&'static str>),
    /// A directory or a lock of the run's state cannot be created.
    #[error("cannot prepare {path}")]
    State {
        /// Path of the directory or the lock.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The cgroups of the run cannot be created.
    #[error("cannot create the run's cgroups")]
    Cgroup(#[source] io::Error),
    /// The mount of the workspace cannot be created.
    #[error("cannot mount the workspace {path} for the command")]
    Workspace {
        /// The workspace.
        path: PathBuf,
        /// The cause. The error is `EINVAL` if the file system does not support idmapped mounts.
        #[source]
        source: io::Error,
    },
    /// The cache cannot be used.
    #[error("--cache: cannot use {path} as a cache")]
    Cache {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: CacheError,
    },
    /// A process of the run cannot be started.
    #[error("cannot start the {process}")]
    Spawn {
        /// Name of the process.
        process: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel programs cannot be used.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// A process of the run failed, or ended without a message.
    #[error("the {process} failed: {text}")]
    Helper {
        /// Name of the process.
        process: &'static str,
        /// The error text of the process.
        text: String,
    },
    /// Probes in the boundary succeeded, or are inconclusive.
    #[error("{}", open(.0))]
    Open(Vec<ProbeResult>),
    /// A real Pipelock cannot be used as the mediator.
    #[error("the mediator failed: cannot use Pipelock")]
    Pipelock(#[from] PipelockError),
    /// The packet cannot be written.
    #[error("cannot write the packet to {path}; {kept}")]
    Packet {
        /// The packet directory.
        path: PathBuf,
        /// A text that states where the evidence was kept, or why it was not.
        kept: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A step of the supervisor failed.
    #[error("cannot {what}")]
    System {
        /// The step.
        what: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Why a directory cannot be used as a cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The caller chose a path that is not a cache and cannot become one.
    #[error("{0}")]
    NotACache(&'static str),
    /// Another run uses the cache.
    #[error("another run uses this cache")]
    InUse,
    /// The mount for the command cannot be created. The error is `EINVAL` if the file system does not support idmapped
    /// mounts.
    #[error("cannot mount it for the command")]
    Mount(#[source] io::Error),
    /// A file of the cache cannot be read or created.
    #[error("cannot read or write it")]
    Io(#[from] io::Error),
}

impl From<Errno> for CacheError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl RunError {
    /// Returns the error with its causes.
    pub fn on_one_line(&self) -> String {
        in_words(self)
    }

    /// Whether the caller's arguments are the cause. All other errors are failures of the machine, the boundary, or the
    /// mediator.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Cache {
                source: CacheError::NotACache(_),
                ..
            }
        )
    }

    /// Returns the next step for the user, if there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotRoot => Some("start it with sudo"),
            Self::UserNamespace => {
                Some("root of a user namespace is not enough; run egress as root of the host")
            }
            Self::Unprivileged(_) => Some("run a privileged container, or run egress on the host"),
            Self::State { .. } => {
                Some("make /run/egress writable for root; every run keeps its state there")
            }
            Self::Cgroup(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Some("make the cgroup tree writable (a container needs --privileged)")
            }
            Self::Cgroup(_) => Some("mount a cgroup v2 tree: mount -t cgroup2 none /sys/fs/cgroup"),
            Self::Workspace { .. } => Some(
                "its file system must support idmapped mounts (ext4, xfs, btrfs, tmpfs since 6.3); \
                 --workspace apply and discard need Linux 5.19, direct and read-only 5.12; \
                 copy works everywhere",
            ),
            Self::Cache { source, .. } => match source {
                CacheError::NotACache(_) => Some(
                    "name an empty directory, or one that does not exist; egress marks it as a cache",
                ),
                CacheError::InUse => Some("wait until that run ends, or name another directory"),
                CacheError::Mount(_) => Some(
                    "the file system of the cache must support idmapped mounts (ext4, xfs, btrfs, tmpfs since 6.3)",
                ),
                CacheError::Io(_) => None,
            },
            Self::Bpf(error) => Some(error.hint()),
            Self::Open(_) => Some(
                "the command was not run; to run it anyway, add --accept-risk NAME, which the packet records",
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

/// Formats the probes that show an open boundary.
fn open(probes: &[ProbeResult]) -> String {
    let words = |probe: &ProbeResult| {
        let name = &probe.name;
        let detail = visible(&probe.detail);
        if probe.outcome != ProbeOutcome::ControlFailed {
            format!("probe {name} succeeded ({detail})")
        } else if probe.control.succeeded {
            format!("probe {name} could not run ({detail})")
        } else {
            let detail = visible(&probe.control.detail);
            format!("probe {name} proves nothing, because its control failed ({detail})")
        }
    };
    let words: Vec<String> = probes.iter().map(words).collect();
    format!("the boundary is open: {}", words.join("; "))
}

/// Adds the name of the step to its error.
///
/// # Errors
/// Returns the error in `done`, with `what` as the name of the step.
pub fn system<T>(what: &'static str, done: io::Result<T>) -> Result<T, RunError> {
    done.map_err(|source| RunError::System { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_mount_of_the_cache_is_about_its_file_system() {
        let denied = || io::Error::from_raw_os_error(libc::EACCES);
        for (source, is_usage, is_about_mounts) in [
            (CacheError::NotACache(""), true, false),
            (CacheError::InUse, false, false),
            (CacheError::Mount(denied()), false, true),
            (CacheError::Io(denied()), false, false),
        ] {
            let path = PathBuf::from("/cache");
            let error = RunError::Cache { path, source };
            assert_eq!(error.is_usage(), is_usage, "{error:?}");
            let is_about = error.hint().is_some_and(|hint| hint.contains("idmapped"));
            assert_eq!(is_about, is_about_mounts, "{error:?}");
        }
    }

    #[test]
    fn hint_about_cgroups_depends_on_the_cause() {
        for (errno, hint) in [
            (
                libc::EROFS,
                "make the cgroup tree writable (a container needs --privileged)",
            ),
            (
                libc::ENOENT,
                "mount a cgroup v2 tree: mount -t cgroup2 none /sys/fs/cgroup",
            ),
        ] {
            let error = RunError::Cgroup(io::Error::from_raw_os_error(errno));
            assert_eq!(error.hint(), Some(hint));
        }
    }
}
