//! The mediator inside this binary.
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use audit_packet::format::boundary::{BuiltinBinding, MediatorDocument};
use audit_packet::model::ScannerConfig;
use egress_mediator::plan::{MediatorPlan, Status};
use egress_pipelock::LetThrough;
use egress_policy::runtime::{self, OwnedKeys, RuntimePolicy};
use egress_relay::plan::PlainHttp;
use egress_sys::process::made_in_cgroup;
use nix::sys::signal::Signal;
use pipelock_receipts::capsule::Signed;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::role::{
    Launch, MediatorEnd, MediatorRecord, MediatorSetup, PolicyInForce, Relay, RelayOptions,
    RunningMediator, StartRelay,
};
use crate::run::error::{RunError, system};
use crate::run::helper::{Helper, ended_well};
use crate::run::plan::Plan;
use crate::run::state::{RunDir, random_hex};

/// The built-in mediator with its listening socket.
#[derive(Debug)]
pub(super) struct BuiltinSetup {
    listener: TcpListener,
    policy: RuntimePolicy,
}

impl BuiltinSetup {
    /// Creates the listening socket, in the mediator's `cgroup`.
    ///
    /// # Errors
    /// Fails if the socket cannot be created, or the policy cannot be built.
    pub(super) fn new(plan: &Plan, dir: &RunDir, cgroup: BorrowedFd<'_>) -> Result<Self, RunError> {
        let listener = system("listen on the host's loopback", listener(cgroup))?;
        let address = system("read the mediator's address", listener.local_addr())?;
        let policy = runtime_policy(plan, dir, address)?;
        Ok(Self { listener, policy })
    }

    fn start_process(
        &self,
        launch: &Launch<'_>,
        capsule: &Signed,
        mark: &str,
    ) -> Result<Helper<Status>, RunError> {
        let context = launch.context;
        let (run, id, dir) = (&context.plan, context.users.host, &context.dir);
        let evidence = system("create the evidence directory", dir.make_evidence(id))?;
        let random = |what| system(what, random_hex::<16>());
        let plan = MediatorPlan {
            uid: id,
            gid: id,
            listener_fd: self.listener.as_raw_fd(),
            policy_yaml: self.policy.yaml.clone(),
            signing_seed_hex: hex::encode(run.signer.key.to_bytes()),
            evidence_dir: evidence,
            recorder_session: format!("proxy.run.{}", random("name the recorder's session")?),
            run_nonce: random("create a run nonce")?,
            agent_identity: run.agent_identity.clone(),
            heartbeat_seconds: self.policy.policy.recorder.heartbeat.as_secs().max(1),
            mark: mark.to_owned(),
            redaction_key: launch.redaction_key.clone(),
            posture: Some(capsule.posture.clone()),
        };
        let cgroup = launch.boundary.cgroups.mediator.as_fd();
        let passed = [self.listener.as_fd()];
        Helper::start("mediator", c"__mediator", &plan, cgroup, &passed, dir)
    }
}

impl MediatorSetup for BuiltinSetup {
    fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn start(
        self: Box<Self>,
        launch: &Launch<'_>,
        start_relay: &StartRelay<'_>,
    ) -> Result<(Box<dyn RunningMediator>, Relay), RunError> {
        let capsule = (launch.sign)(&self.policy.yaml);
        let mark = system("create a mark", random_hex::<16>())?;
        let process = self.start_process(launch, &capsule, &mark)?;
        let relay = start_relay(RelayOptions {
            mark: Some(mark),
            ..RelayOptions::default()
        })?;
        process.wait_ready(&launch.context.dir, |status| match status {
            Status::Ready => Ok(()),
            Status::Failed { error } => Err(error.clone()),
        })?;
        let running = Builtin {
            process,
            policy: self.policy,
            capsule,
        };
        Ok((Box::new(running), relay))
    }
}

/// The built-in mediator while it runs.
#[derive(Debug)]
struct Builtin {
    process: Helper<Status>,
    policy: RuntimePolicy,
    capsule: Signed,
}

impl RunningMediator for Builtin {
    fn watched(&self) -> BorrowedFd<'_> {
        self.process.control.as_fd()
    }

    fn failure(&mut self, dir: &RunDir) -> Option<String> {
        match self.process.next_message() {
            Ok(None | Some(Status::Ready)) => None,
            Ok(Some(Status::Failed { error })) => Some(format!("the mediator stopped: {error}")),
            Err(gone) => {
                let tail = dir.log_tail("mediator");
                let separator = if tail.is_empty() { "" } else { ": " };
                Some(format!("{gone}{separator}{tail}"))
            }
        }
    }

    fn end(self: Box<Self>, _tunnels: u64, _allowed: LetThrough) -> MediatorEnd {
        self.process.child.signal(Signal::SIGTERM);
        let ended = ended_well(&self.process);
        MediatorEnd {
            policy: policy_in_force(self.policy),
            capsule: Some(self.capsule),
            record: record(),
            failed: ended.is_err(),
            incomplete: ended
                .err()
                .map(|error| format!("cannot end the mediator: {error}"))
                .into_iter()
                .collect(),
        }
    }
}

/// Returns the record of the built-in mediator, which is the same in every run.
pub(super) fn record() -> MediatorRecord {
    MediatorRecord {
        document: MediatorDocument::Builtin {
            posture: BuiltinBinding::Bound,
        },
        plain_http: PlainHttp::Scan,
        scanner: ScannerConfig {
            dlp_patterns_count: Some(0),
            response_patterns_count: Some(0),
            ssrf_enabled: Some(true),
            redaction_enabled: Some(false),
            flight_recorder_enabled: Some(true),
            ..ScannerConfig::default()
        },
        notices: Vec::new(),
    }
}

/// Returns a policy of the built-in mediator, whose mode is always `strict`.
pub(super) fn policy_in_force(policy: RuntimePolicy) -> PolicyInForce {
    PolicyInForce {
        yaml: policy.yaml,
        mode: String::from("strict"),
        overridden: policy.overridden,
    }
}

/// Creates the mediator's listening socket on the host's loopback, on a port that the kernel selects.
///
/// The socket is created in the mediator's cgroup, because the kernel program that checks callers is attached there.
/// The backlog is larger than the library's default of 128, which would lose SYNs in a burst of connections.
fn listener(cgroup: BorrowedFd<'_>) -> io::Result<TcpListener> {
    let socket = Socket::from(made_in_cgroup(cgroup, || {
        Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).map(Into::into)
    })?);
    socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Builds the exact policy of a built-in mediator that listens at `address`. The paths that egress sets are below the
/// run's directory.
///
/// # Errors
/// Fails if the caller's policy is invalid.
pub(super) fn runtime_policy(
    plan: &Plan,
    dir: &RunDir,
    address: SocketAddr,
) -> Result<RuntimePolicy, RunError> {
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let owned = OwnedKeys {
        listen: address.to_string(),
        agent_identity: plan.agent_identity.clone(),
        evidence_dir: text(dir.evidence()),
        signing_key_path: text(dir.path().join("signing.key")),
    };
    runtime::build(plan.policy.text.as_deref(), &owned).map_err(|error| RunError::Helper {
        process: "policy",
        text: error.to_string(),
    })
}
