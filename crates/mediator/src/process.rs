//! The process `egress __mediator`: reads its plan, drops its privileges, opens its session, and serves.
use std::future::Future;
use std::io;
use std::net::TcpListener as StdListener;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::net::UnixDatagram as StdUnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use egress_policy::runtime::policy_hash;
use egress_policy::{PolicyError, parse::parse};
use egress_sys::channel::Channel;
use egress_sys::routes::Routes;
use egress_sys::{handover, privileges};
use getrandom::fill;
use http::HeaderValue;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::getppid;
use pipelock_receipts::keys::{KeyError, signing_key_from_seed_hex};
use pipelock_receipts::recorder::SessionConfig;
use thiserror::Error;
use tokio::net::UnixDatagram;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use super::recorder::{EvidenceError, Ledger};
use super::resolve::SystemResolver;
use super::server::adopt;
use super::state::{BuiltinMediator, Capacity, Secrets};
use super::store::Directory;
use crate::plan::{MediatorPlan, Status};

/// The mediator's end of its control socket. The mediator receives no message on this socket, only
/// the end of the stream.
type Control = Channel<Status, ()>;

/// Maximum number of threads for lookups. The service itself uses one thread.
const LOOKUP_THREADS: usize = 32;
/// Exit status after a stop with a complete session.
const ENDED: u8 = 0;
/// Exit status after an error. The process sends the error on the control socket if it can.
const FAILED: u8 = 1;

/// Why the process cannot start or continue.
#[derive(Debug, Error)]
enum ProcessError {
    #[error("cannot read the mediator's plan: {0}")]
    Plan(io::Error),
    #[error("cannot take over the listener: {0}")]
    Listener(io::Error),
    #[error("cannot raise the limit on open descriptors: {0}")]
    Descriptors(io::Error),
    #[error("cannot drop privileges: {0}")]
    Privileges(io::Error),
    #[error("cannot use the runtime policy: {0}")]
    Policy(#[from] PolicyError),
    #[error("cannot use the signing key: {0}")]
    Key(#[from] KeyError),
    #[error("cannot use the mark for the mediator's answers: not a valid HTTP header value")]
    Mark,
    #[error("cannot read the machine's own addresses: {0}")]
    Routes(io::Error),
    #[error("cannot start the mediator's event loop: {0}")]
    Runtime(io::Error),
    #[error("cannot get random numbers: {0}")]
    Random(getrandom::Error),
    #[error("cannot watch for the supervisor's stop request: {0}")]
    Control(io::Error),
    #[error("{error}{advice}", error = .0, advice = .0.advice())]
    Evidence(#[from] EvidenceError),
}

/// Runs the process and returns its exit status.
pub fn main(plan_fd: RawFd, control_fd: RawFd) -> u8 {
    let Ok(control) = Control::inherited(control_fd) else {
        return FAILED;
    };
    match run(plan_fd, &control) {
        Ok(()) => ENDED,
        Err(error) => {
            let status = Status::Failed {
                error: error.to_string(),
            };
            // If the supervisor has ended, nothing receives the error.
            drop(control.send(&status));
            FAILED
        }
    }
}

fn run(plan_fd: RawFd, control: &Control) -> Result<(), ProcessError> {
    let parent = getppid();
    let plan: MediatorPlan = handover::read_plan(plan_fd).map_err(ProcessError::Plan)?;
    let listener = handover::inherited(plan.listener_fd).map_err(ProcessError::Listener)?;
    raise_descriptor_limit().map_err(ProcessError::Descriptors)?;
    privileges::drop_to(plan.uid, plan.gid, parent).map_err(ProcessError::Privileges)?;
    let runtime = runtime().map_err(ProcessError::Runtime)?;
    let result = runtime.block_on(session(plan, StdListener::from(listener), control));
    // A lookup that hangs must not delay the exit.
    runtime.shutdown_background();
    result
}

async fn session(
    plan: MediatorPlan,
    listener: StdListener,
    control: &Control,
) -> Result<(), ProcessError> {
    let listener = adopt(listener).map_err(ProcessError::Listener)?;
    let stop = stop(control).map_err(ProcessError::Control)?;
    let policy = parse(&plan.policy_yaml)?;
    let key = signing_key_from_seed_hex(&plan.signing_seed_hex)?;
    let heartbeat = Duration::from_secs(plan.heartbeat_seconds.max(1));
    let secrets = Secrets {
        mark: HeaderValue::from_str(&plan.mark).map_err(|_odd| ProcessError::Mark)?,
        redaction_key: plan.redaction_key.clone(),
    };
    let ledger = Ledger::open(
        Box::new(Directory::new(plan.evidence_dir.clone())),
        key,
        session_config(plan, policy.recorder.checkpoint_interval)?,
        policy.recorder.max_entries_per_file,
    )?;
    let mediator = BuiltinMediator::new(
        policy,
        Arc::clone(&ledger),
        Box::new(SystemResolver),
        Routes::open().map_err(ProcessError::Routes)?,
        secrets,
        Capacity::default(),
        heartbeat,
    );
    control
        .send(&Status::Ready)
        .map_err(ProcessError::Control)?;
    mediator.serve(listener, stop).await?;
    Ok(())
}

fn session_config(
    plan: MediatorPlan,
    checkpoint_interval: u64,
) -> Result<SessionConfig, ProcessError> {
    let mut open_nonce = [0; 16];
    fill(&mut open_nonce).map_err(ProcessError::Random)?;
    Ok(SessionConfig {
        recorder_session: plan.recorder_session,
        run_nonce: plan.run_nonce,
        open_nonce: hex::encode(open_nonce),
        actor: plan.agent_identity,
        policy_hash: policy_hash(&plan.policy_yaml),
        heartbeat_seconds: plan.heartbeat_seconds.max(1),
        posture: plan.posture.unwrap_or_default(),
        checkpoint_interval,
    })
}

/// Completes at SIGTERM, or when the supervisor closes or shuts down its end of the control socket.
fn stop(control: &Control) -> io::Result<impl Future<Output = ()> + use<>> {
    let mut terminate = signal(SignalKind::terminate())?;
    // Only the supervisor acts on these signals. This process catches them, so that they do not end it.
    let ignored = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
    );
    // The type is for datagrams, but a SOCK_SEQPACKET socket supports the same calls.
    let control = StdUnixDatagram::from(control.as_fd().try_clone_to_owned()?);
    control.set_nonblocking(true)?;
    let control = UnixDatagram::from_std(control)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            () = closed(&control) => {}
        }
        drop(ignored);
    })
}

/// Completes at the end of the stream, or when receiving fails. Earlier messages are ignored.
async fn closed(control: &UnixDatagram) {
    let mut buffer = [0; 64];
    while let Ok(1..) = control.recv(&mut buffer).await {}
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUP_THREADS)
        .build()
}

/// Raises the limit on open descriptors, because a tunnel uses two of them and the soft limit is often 1,024.
fn raise_descriptor_limit() -> io::Result<()> {
    let (_soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}
