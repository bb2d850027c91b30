//! The mediator of a run, whichever it is: where it listens, whether it lives, how it ends.
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use egress_mediator::plan::Status;
use egress_pipelock::facts::Facts;
use egress_pipelock::http::Gate;
use egress_pipelock::ports::Ports;
use egress_pipelock::{LetThrough, Pipelock};
use egress_policy::runtime::{self, OwnedKeys, RuntimePolicy};
use egress_sys::process::made_in_cgroup;
use nix::sys::signal::Signal;
use pipelock_receipts::capsule::Signed;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::error::{RunError, system};
use super::helper::{Helper, ended_well};
use super::plan::{MediatorChoice, Mode, Plan};
use super::state::RunDir;
use crate::bpf::Callers;

/// The gate of the kernel programs.
impl Gate for Callers {
    fn note(&mut self, port: u16, may_call: bool) -> std::io::Result<()> {
        Self::note(self, port, may_call)
    }
}

/// An address that nothing listens at, and to which the gates let nobody connect.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Where the mediator will listen.
#[derive(Debug)]
pub(super) enum Entry {
    /// At this socket, under this policy.
    Builtin(TcpListener, Box<RuntimePolicy>),
    /// At these ports; the policy depends on what the Pipelock knows.
    Pipelock(Ports),
    /// Nowhere: in an audit there is none. This is the policy that would be.
    Absent(Box<RuntimePolicy>),
}

impl Entry {
    /// The address that the relay connects to.
    pub(super) fn address(&self) -> std::io::Result<SocketAddr> {
        match self {
            Self::Builtin(listener, _) => listener.local_addr(),
            Self::Pipelock(ports) => Ok(ports.proxy.address().into()),
            Self::Absent(_) => Ok(NOWHERE),
        }
    }
}

/// Where the mediator will listen on the host's loopback.
pub(super) fn entry(plan: &Plan, dir: &RunDir, cgroup: BorrowedFd<'_>) -> Result<Entry, RunError> {
    if plan.mode == Mode::Audit {
        return Ok(Entry::Absent(Box::new(runtime_policy(plan, dir, NOWHERE)?)));
    }
    let what = "listen on the host's loopback";
    match plan.mediator {
        MediatorChoice::Builtin => {
            let listener = system(what, mediator_listener(cgroup))?;
            let address = system("read the mediator's address", listener.local_addr())?;
            let policy = runtime_policy(plan, dir, address)?;
            Ok(Entry::Builtin(listener, Box::new(policy)))
        }
        MediatorChoice::Pipelock(_) => Ok(Entry::Pipelock(system(what, Ports::hold())?)),
    }
}

/// The mediator's listening socket on the host's loopback, at a port of the kernel's choice. It is
/// made in the mediator's cgroup: that is where the gate on it looks. The backlog holds a burst of
/// connections; the library's default of 128 loses SYNs in one.
fn mediator_listener(cgroup: BorrowedFd<'_>) -> std::io::Result<TcpListener> {
    let socket = Socket::from(made_in_cgroup(cgroup, || {
        Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).map(Into::into)
    })?);
    socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// The exact policy that the built-in mediator runs with, its owned paths below the run's directory.
fn runtime_policy(
    plan: &Plan,
    dir: &RunDir,
    mediator: SocketAddr,
) -> Result<RuntimePolicy, RunError> {
    let owned = OwnedKeys {
        listen: mediator.to_string(),
        agent_identity: plan.agent_identity.clone(),
        evidence_dir: dir.evidence().to_string_lossy().into_owned(),
        signing_key_path: dir
            .path()
            .join("signing.key")
            .to_string_lossy()
            .into_owned(),
    };
    runtime::build(plan.policy.text.as_deref(), &owned).map_err(|error| RunError::Helper {
        process: "policy",
        text: error.to_string(),
    })
}

/// The policy in force, for the record.
#[derive(Debug, Clone)]
pub struct Ruling {
    /// The exact bytes of the packet's `policy.yaml`.
    pub yaml: String,
    /// `mode`: only `strict` enforces the list.
    pub mode: String,
    /// Keys that the caller had set to something else.
    pub overridden: Vec<String>,
}

/// The policy of the built-in mediator, which knows no other mode.
fn ruling(policy: RuntimePolicy) -> Ruling {
    Ruling {
        yaml: policy.yaml,
        mode: String::from("strict"),
        overridden: policy.overridden,
    }
}

/// A mediator that runs.
#[derive(Debug)]
pub(super) enum Mediator {
    /// The one inside this binary.
    Builtin(Box<Builtin>),
    /// A real one.
    Pipelock(Box<Pipelock>),
    /// None, in an audit; the policy that would be.
    Absent(Box<RuntimePolicy>),
}

/// The mediator inside this binary.
#[derive(Debug)]
pub(super) struct Builtin {
    /// Its process.
    pub(super) helper: Helper<Status>,
    /// Its policy.
    pub(super) policy: RuntimePolicy,
    /// The posture capsule that it binds.
    pub(super) capsule: Signed,
}

/// What a mediator left.
#[derive(Debug)]
pub(super) struct MediatorEnd {
    pub(super) policy: Ruling,
    pub(super) capsule: Option<Signed>,
    /// What there is to say of a real Pipelock.
    pub(super) facts: Option<Facts>,
    pub(super) incomplete: Vec<String>,
    pub(super) failed: bool,
}

impl Mediator {
    /// Readable when it has something to say, or has ended.
    pub(super) fn watched(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Builtin(builtin) => Some(builtin.helper.control.as_fd()),
            Self::Pipelock(pipelock) => Some(pipelock.pidfd()),
            Self::Absent(_) => None,
        }
    }

    /// Hears what it has to say; `Some` when it failed or is gone.
    pub(super) fn hear(&mut self, dir: &RunDir) -> Option<String> {
        let helper = match self {
            Self::Builtin(builtin) => &builtin.helper,
            Self::Pipelock(pipelock) => return pipelock.gone(),
            Self::Absent(_) => return None,
        };
        match helper.hear() {
            Ok(None | Some(Status::Ready)) => None,
            Ok(Some(Status::Failed { error })) => Some(format!("the mediator stopped: {error}")),
            Err(gone) => {
                let tail = dir.log_tail("mediator");
                let separator = if tail.is_empty() { "" } else { ": " };
                Some(format!("{gone}{separator}{tail}"))
            }
        }
    }

    /// Looks after it, a few hundred times a second; `Some` when the run cannot go on.
    pub(super) fn look(&mut self) -> Option<String> {
        match self {
            Self::Builtin(_) | Self::Absent(_) => None,
            Self::Pipelock(pipelock) => pipelock.look(),
        }
    }

    /// Connections that its side of the relay has open: the end waits for their receipts.
    pub(super) fn tunnels(&mut self) -> u64 {
        match self {
            Self::Builtin(_) | Self::Absent(_) => 0,
            // One that does not answer says so at its end.
            Self::Pipelock(pipelock) => pipelock.tunnels().unwrap_or_default(),
        }
    }

    /// Ends it: SIGTERM, time to close its session, then SIGKILL. `tunnels` is what
    /// [`Self::tunnels`] said before the relay ended, `allowed` what the relay has forwarded.
    ///
    /// A mediator that has to be killed because it does not end, or does nothing, makes the exit status 125. A Pipelock
    /// that still scans after a minute is killed as well, but the run keeps the command's status, because only the end
    /// of the receipts is unproven then.
    pub(super) fn end(
        self,
        choice: &MediatorChoice,
        tunnels: u64,
        allowed: LetThrough,
    ) -> MediatorEnd {
        match self {
            Self::Absent(policy) => MediatorEnd {
                policy: ruling(*policy),
                capsule: None,
                facts: None,
                incomplete: Vec::new(),
                failed: false,
            },
            Self::Builtin(builtin) => {
                let Builtin {
                    helper,
                    policy,
                    capsule,
                } = *builtin;
                helper.child.signal(Signal::SIGTERM);
                let done = ended_well(&helper);
                MediatorEnd {
                    policy: ruling(policy),
                    capsule: Some(capsule),
                    facts: None,
                    failed: done.is_err(),
                    incomplete: done
                        .err()
                        .map(|error| format!("cannot end the mediator: {error}"))
                        .into_iter()
                        .collect(),
                }
            }
            Self::Pipelock(pipelock) => {
                let policy = pipelock.policy();
                let ruling = Ruling {
                    yaml: policy.yaml.clone(),
                    mode: policy.mode.clone(),
                    overridden: policy.overridden.clone(),
                };
                let capsule = Some(pipelock.capsule().clone());
                let given = match choice {
                    MediatorChoice::Pipelock(choice) => choice.binary.as_path(),
                    MediatorChoice::Builtin => std::path::Path::new(""),
                };
                let ended = pipelock.end(given, tunnels, allowed);
                MediatorEnd {
                    policy: ruling,
                    capsule,
                    facts: Some(ended.facts),
                    incomplete: ended.incomplete,
                    failed: ended.failed,
                }
            }
        }
    }
}
