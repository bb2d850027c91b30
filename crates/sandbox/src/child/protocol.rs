//! What the supervisor and the boundary's init say to each other, and in which order.
use std::io;
use std::path::PathBuf;

use egress_sys::privileges::Enforced;
use egress_workspace::credentials::Shown;
use serde::{Deserialize, Serialize};

use crate::layers::Layers;
use crate::probe::Found;
use crate::probe::scene::Scene;
use crate::view::{LeftOut, PlacedFile, TmpfsLimits};

/// Everything that init needs: JSON in an inherited memory file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagePlan {
    /// Empty directory of the run, mount point of the view under construction.
    pub stage_dir: PathBuf,
    /// User and group id of `pipelock-agent`.
    pub agent: u32,
    /// Host name inside: the first label of the host's.
    pub hostname: String,
    /// Home of the agent inside.
    pub home: PathBuf,
    /// Files that differ from the host's.
    pub files: Vec<PlacedFile>,
    /// Sizes of the private tmpfs.
    pub limits: TmpfsLimits,
    /// Files of cgroups that init writes itself to.
    pub join: Vec<PathBuf>,
    /// Resource limits of the agent.
    pub resources: Resources,
    /// The workspace: its path, and the number of the inherited detached mount.
    pub workspace: (PathBuf, i32),
    /// Where the workspace's changes go, and its inode: the workspace is an overlay then, and that mount its
    /// lower layer.
    pub store: Option<(PathBuf, u64)>,
    /// Sockets of the host that are opened to the agent: path, and number of the inherited mount.
    pub sockets: Vec<(PathBuf, i32)>,
    /// What the run itself uses and the agent must not see.
    pub masked: Vec<PathBuf>,
    /// Files that are shown in place of the host's, where they are in the view at all.
    pub covered: Vec<(PathBuf, Shown)>,
    /// Files below a masked directory that the agent may read all the same.
    pub shown: Vec<PathBuf>,
    /// Names of the command files that the agent gets.
    pub command_files: Vec<String>,
    /// Whether the network is the caller's and stays open: no sockets, no probes, every family.
    pub audit: bool,
    /// Whether the stub resolver's sockets are wanted.
    pub dns: bool,
    /// Explicit proxy port.
    pub proxy_port: u16,
    /// Numbers of the agent's ends of its standard streams.
    pub stdio: [i32; 3],
    /// Working directory of the agent.
    pub workdir: PathBuf,
    /// Command and arguments, bytes as they were typed.
    pub command: Vec<Vec<u8>>,
    /// The agent's whole environment, `NAME=value`.
    pub environment: Vec<Vec<u8>>,
    /// Layers of the boundary.
    pub layers: Layers,
}

/// Resource limits (setrlimit(2)).
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Processes and threads of the agent's user.
    pub processes: u64,
    /// Open files of a process.
    pub open_files: u64,
    /// Data of a process, where nothing else limits its memory. Never its address space, of which
    /// programs reserve a lot that they do not use.
    pub data: Option<u64>,
}

/// What init says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromInit {
    /// The view and the sockets stand. Comes with the descriptors of the sockets, in the order of
    /// [`Sockets::order`], and then those of the directories in `held`.
    Entered {
        /// Whether `::1` could be bound.
        ipv6: bool,
        /// Whether the stub resolver's sockets are among the descriptors.
        dns: bool,
        /// Host mounts that are not in the view.
        left_out: Vec<LeftOut>,
        /// Directories of the view that the supervisor gets a descriptor of.
        held: Vec<PathBuf>,
    },
    /// What the probes found.
    Probed {
        /// What each attempt met.
        found: Found,
    },
    /// The agent process gave up its privileges; what it re-read from the kernel.
    Dropped(Enforced),
    /// The command runs.
    Started,
    /// The command could not be executed.
    NotExecuted {
        /// `errno` of the last `execve`.
        errno: i32,
    },
    /// The command has ended.
    Exited {
        /// Exit status, or 128 + signal.
        status: i32,
    },
    /// A step failed; nothing of the command ran.
    Failed {
        /// What was tried.
        step: String,
        /// Why it failed.
        error: String,
    },
}

/// What the supervisor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case", deny_unknown_fields)]
pub enum ToInit {
    /// The gates are up: try what they refuse.
    Probe {
        /// What to aim at; nothing in an audit, where it would get through, and out.
        scene: Option<Box<Scene>>,
    },
    /// The boundary is closed and the mediator is ready: become the command.
    Go,
    /// Deliver a signal to the command's process group.
    Signal {
        /// Its number.
        number: i32,
    },
}

/// The sockets that init makes inside the boundary's network namespace.
#[derive(Debug)]
pub struct Sockets<T> {
    /// 127.0.0.1, redirected connections.
    pub transparent_v4: T,
    /// 127.0.0.1, explicit proxy.
    pub proxy_v4: T,
    /// `::1`, redirected connections.
    pub transparent_v6: Option<T>,
    /// 127.0.0.1:53, UDP and TCP.
    pub dns: Option<(T, T)>,
}

impl<T> Sockets<T> {
    /// The sockets in the order in which they are passed.
    pub fn order(&self) -> Vec<&T> {
        let mut all = vec![&self.transparent_v4, &self.proxy_v4];
        all.extend(&self.transparent_v6);
        if let Some((udp, tcp)) = &self.dns {
            all.extend([udp, tcp]);
        }
        all
    }

    /// The reverse of [`Sockets::order`].
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

/// The order in which init's messages may come, checked on the supervisor's side: a type cannot
/// cross a process border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// Nothing was said.
    Fresh,
    /// The view stands.
    Entered,
    /// The probes have run.
    Probed,
    /// The agent has no privileges left.
    Dropped,
    /// The command runs: from here on, assume that it did.
    Started,
    /// It ended, or never started.
    Ended,
}

impl Sequence {
    /// Takes the next message.
    ///
    /// # Errors
    /// When it is out of order; nothing that init says is believed then.
    pub fn accept(self, message: &FromInit) -> io::Result<Self> {
        match (self, message) {
            (Self::Fresh, FromInit::Entered { .. }) => Ok(Self::Entered),
            (Self::Entered, FromInit::Probed { .. }) => Ok(Self::Probed),
            (Self::Probed, FromInit::Dropped(_)) => Ok(Self::Dropped),
            (Self::Dropped, FromInit::Started) => Ok(Self::Started),
            (Self::Dropped, FromInit::NotExecuted { .. })
            | (Self::Started, FromInit::Exited { .. })
            | (
                Self::Fresh | Self::Entered | Self::Probed | Self::Dropped,
                FromInit::Failed { .. },
            ) => Ok(Self::Ended),
            (state, message) => Err(io::Error::other(format!(
                "the boundary's init said {message:?} in state {state:?}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(state.accept(&FromInit::NotExecuted { errno: 2 }).is_err());
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
