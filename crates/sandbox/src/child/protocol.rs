//! The messages between the supervisor and the boundary's init, and their permitted order.
use std::io;
use std::path::PathBuf;

use egress_sys::privileges::Enforced;
use egress_workspace::credentials::Shown;
use serde::{Deserialize, Serialize};

use super::refused::NotExecuted;
use crate::layers::Layers;
use crate::probe::Found;
use crate::probe::scene::Scene;
use crate::view::{LeftOut, PlacedFile, TmpfsLimits};

/// The plan for init, passed as JSON in an inherited memory file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagePlan {
    /// Empty directory of the run, on which the file view is built.
    pub stage_dir: PathBuf,
    /// User and group id of the command, `pipelock-agent` in the packet.
    pub agent: u32,
    /// Host name inside the boundary: the first label of the host's name.
    pub hostname: String,
    /// The command's home directory.
    pub home: PathBuf,
    /// Files that replace host files in the file view.
    pub files: Vec<PlacedFile>,
    /// Size limits of the private tmpfs.
    pub limits: TmpfsLimits,
    /// Cgroup files (`tasks`) to which init writes `0`, to join the cgroups.
    pub join: Vec<PathBuf>,
    /// Resource limits of the command.
    pub resources: Resources,
    /// The workspace's path, and the descriptor number of its inherited detached mount.
    pub workspace: (PathBuf, i32),
    /// The directory for the workspace's changes, and its inode. If present, the workspace is an
    /// overlay whose lower layer is the mount in `workspace`.
    pub store: Option<(PathBuf, u64)>,
    /// Directories of the caller's home that the command may read, although other users
    /// cannot enter the home.
    pub tools: Vec<PathBuf>,
    /// Descriptor number of the inherited mount of the cache in the command's home.
    pub cache: Option<i32>,
    /// Host sockets that the command may use: the path, and the descriptor number of the inherited
    /// mount.
    pub sockets: Vec<(PathBuf, i32)>,
    /// The run's own files and directories, which the command must not see.
    pub masked: Vec<PathBuf>,
    /// The policy, if it is a file of the workspace that the command may read but not change.
    pub policy: Option<PathBuf>,
    /// Replacements for host files, used if the file view contains the host file.
    pub covered: Vec<(PathBuf, Shown)>,
    /// Files below a masked directory that the command may still read.
    pub shown: Vec<PathBuf>,
    /// Names of the files that replace the CI runner's command files.
    pub command_files: Vec<String>,
    /// Whether the run is an audit. In an audit, the command uses the caller's network, the filters allow every socket
    /// family, and init does not open sockets or run probes.
    pub audit: bool,
    /// Whether the stub resolver's sockets are needed.
    pub dns: bool,
    /// Port of the explicit proxy.
    pub proxy_port: u16,
    /// Descriptor numbers for the command's standard streams. Without them, init opens a
    /// pseudoterminal for the command.
    pub stdio: Option<[i32; 3]>,
    /// The command's working directory.
    pub workdir: PathBuf,
    /// Command and arguments, byte for byte as the caller passed them.
    pub command: Vec<Vec<u8>>,
    /// The command's whole environment, as `NAME=value`.
    pub environment: Vec<Vec<u8>>,
    /// The layers of the boundary.
    pub layers: Layers,
}

/// Resource limits of the command (setrlimit(2)).
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Maximum number of processes and threads of the command's user.
    pub processes: u64,
    /// Maximum number of open files of one process.
    pub open_files: u64,
    /// Limit on the data segment of one process, set if nothing else limits its memory. The address
    /// space is never limited, because programs reserve much more address space than they use.
    pub data: Option<u64>,
}

/// Messages from init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromInit {
    /// The file view and the sockets are ready. The message carries the descriptors of the sockets in the order of
    /// [`Sockets::order`], then the descriptors of the directories in `held`, and then the master of the command's
    /// terminal.
    Entered {
        /// Whether a socket could be bound to `::1`.
        ipv6: bool,
        /// Whether the stub resolver's sockets are among the descriptors.
        dns: bool,
        /// Host mounts that are not in the file view.
        left_out: Vec<LeftOut>,
        /// Directories of the file view whose descriptors are passed to the supervisor.
        held: Vec<PathBuf>,
        /// Whether the master of the command's terminal is among the descriptors.
        terminal: bool,
    },
    /// The probes have run.
    Probed {
        /// The result of each probe.
        found: Found,
    },
    /// The process of the command has dropped its privileges. The message has the values that the
    /// kernel reported afterwards.
    Dropped(Enforced),
    /// The command is running.
    Started,
    /// The command could not be executed.
    NotExecuted(NotExecuted),
    /// The command has ended.
    Exited {
        /// Exit status, or 128 + signal number.
        status: i32,
    },
    /// A step failed, and the command did not run.
    Failed {
        /// The step that failed.
        step: String,
        /// The error of the step.
        error: String,
    },
}

impl FromInit {
    /// Returns the name of the message, for error texts.
    fn name(&self) -> &'static str {
        match self {
            Self::Entered { .. } => "entered",
            Self::Probed { .. } => "probed",
            Self::Dropped(_) => "dropped",
            Self::Started => "started",
            Self::NotExecuted(_) => "not_executed",
            Self::Exited { .. } => "exited",
            Self::Failed { .. } => "failed",
        }
    }
}

/// Messages from the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case", deny_unknown_fields)]
pub enum ToInit {
    /// The kernel programs are attached, so init runs the probes.
    Probe {
        /// The targets of the probes. `None` in an audit, where the probes would not be denied and
        /// would send packets.
        scene: Option<Box<Scene>>,
    },
    /// The boundary is closed and the mediator is ready, so init starts the command.
    Go,
    /// Init delivers a signal to the command's process group.
    Signal {
        /// The signal's number.
        number: i32,
    },
}

/// The sockets that init opens in the boundary's network namespace.
#[derive(Debug)]
pub struct Sockets<T> {
    /// Listener on 127.0.0.1 for redirected connections.
    pub transparent_v4: T,
    /// Listener on 127.0.0.1 for the explicit proxy.
    pub proxy_v4: T,
    /// Listener on `::1` for redirected connections.
    pub transparent_v6: Option<T>,
    /// UDP and TCP sockets of the stub resolver at 127.0.0.1:53.
    pub dns: Option<(T, T)>,
}

impl<T> Sockets<T> {
    /// Returns the sockets in the order in which they are passed.
    pub fn order(&self) -> Vec<&T> {
        let mut all = vec![&self.transparent_v4, &self.proxy_v4];
        all.extend(&self.transparent_v6);
        if let Some((udp, tcp)) = &self.dns {
            all.extend([udp, tcp]);
        }
        all
    }

    /// Rebuilds the sockets from the list that [`Sockets::order`] returned.
    pub fn from_order(all: Vec<T>, ipv6: bool, dns: bool) -> Option<Self> {
        let mut all = all.into_iter();
        let sockets = Self {
            transparent_v4: all.next()?,
            proxy_v4: all.next()?,
            transparent_v6: if ipv6 { Some(all.next()?) } else { None },
            dns: if dns {
                Some((all.next()?, all.next()?))
            } else {
                None
            },
        };
        all.next().is_none().then_some(sockets)
    }
}

/// The permitted order of init's messages. The supervisor checks the order at run time, because
/// types cannot enforce it across processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// No message has been received.
    Fresh,
    /// The file view is ready.
    Entered,
    /// The probes have run.
    Probed,
    /// The command has dropped its privileges.
    Dropped,
    /// The command is running and may have had effects.
    Started,
    /// The command has ended or never started.
    Ended,
}

impl Sequence {
    /// The name of the state, for errors.
    fn name(self) -> &'static str {
        match self {
            Self::Fresh => "its start",
            Self::Entered => "entered",
            Self::Probed => "probed",
            Self::Dropped => "dropped",
            Self::Started => "started",
            Self::Ended => "the end",
        }
    }

    /// Checks that `message` is permitted in this state, and returns the next state.
    ///
    /// # Errors
    /// Fails if the message is out of order. The supervisor then stops the run.
    pub fn accept(self, message: &FromInit) -> io::Result<Self> {
        match (self, message) {
            (Self::Fresh, FromInit::Entered { .. }) => Ok(Self::Entered),
            (Self::Entered, FromInit::Probed { .. }) => Ok(Self::Probed),
            (Self::Probed, FromInit::Dropped(_)) => Ok(Self::Dropped),
            (Self::Dropped, FromInit::Started) => Ok(Self::Started),
            (Self::Dropped, FromInit::NotExecuted(_))
            | (Self::Started, FromInit::Exited { .. })
            | (
                Self::Fresh | Self::Entered | Self::Probed | Self::Dropped,
                FromInit::Failed { .. },
            ) => Ok(Self::Ended),
            (state, message) => Err(io::Error::other(format!(
                "the boundary's init sent an unexpected message: {} after {}",
                message.name(),
                state.name()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: closed-before-code
    #[test]
    fn the_command_is_believed_to_run_only_after_view_and_drop() {
        let enforced = Enforced {
            no_new_privs: true,
            seccomp_mode: 2,
            seccomp_filters: 4,
            capabilities: 0,
            uid: 7,
        };
        let entered = FromInit::Entered {
            ipv6: true,
            dns: true,
            left_out: Vec::new(),
            held: Vec::new(),
            terminal: false,
        };
        let dropped = FromInit::Dropped(enforced);
        let state = Sequence::Fresh.accept(&entered).unwrap();
        assert!(state.accept(&FromInit::Started).is_err());
        assert!(state.accept(&entered).is_err());
        let probed = FromInit::Probed { found: Vec::new() };
        assert!(state.accept(&dropped).is_err());
        let state = state.accept(&probed).unwrap();
        let state = state.accept(&dropped).unwrap();
        assert!(state.accept(&FromInit::Exited { status: 0 }).is_err());
        let state = state.accept(&FromInit::Started).unwrap();
        let missing = NotExecuted::NotFound { closed: Vec::new() };
        assert!(state.accept(&FromInit::NotExecuted(missing)).is_err());
        assert_eq!(
            state.accept(&FromInit::Exited { status: 3 }).unwrap(),
            Sequence::Ended
        );
    }

    #[test]
    fn sockets_come_back_in_the_order_they_were_sent() {
        let all = Sockets {
            transparent_v4: 1,
            proxy_v4: 2,
            transparent_v6: Some(3),
            dns: Some((4, 5)),
        };
        let order: Vec<i32> = all.order().into_iter().copied().collect();
        assert_eq!(order, [1, 2, 3, 4, 5]);
        let back = Sockets::from_order(order, true, true).unwrap();
        assert_eq!(back.dns, Some((4, 5)));
        assert!(Sockets::from_order(vec![1, 2, 3], false, false).is_none());
        assert!(Sockets::from_order(vec![1], false, false).is_none());
    }
}
