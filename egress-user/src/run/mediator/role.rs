//! The interface between a run and its mediator. Each mediator implements [`MediatorSetup`] and [`RunningMediator`].
use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use audit_packet::format::boundary;
use audit_packet::model::ScannerConfig;
use egress_pipelock::LetThrough;
use egress_policy::patterns::Patterns;
use egress_policy::redact::Key;
use egress_relay::plan::{PlainHttp, Report};
use pipelock_receipts::capsule::Signed;

use crate::run::boundary::Boundary;
use crate::run::context::RunContext;
use crate::run::error::RunError;
use crate::run::helper::Helper;
use crate::run::notice::Notice;
use crate::run::state::RunDir;

/// The relay's process.
pub(in crate::run) type Relay = Helper<Report>;

/// Starts the relay, which then connects to the mediator.
pub(in crate::run) type StartRelay<'r> = dyn Fn(RelayOptions) -> Result<Relay, RunError> + 'r;

/// A mediator that has an address and does not run yet.
pub(in crate::run) trait MediatorSetup: Debug {
    /// Returns the address on the host's loopback at which the mediator will listen.
    ///
    /// # Errors
    /// Fails if the kernel does not report the address of a socket.
    fn address(&self) -> io::Result<SocketAddr>;

    /// Starts the mediator and, at the same time, the relay. Returns when the mediator is ready.
    ///
    /// # Errors
    /// Fails if a process cannot be started, or the mediator fails or is not ready in time.
    fn start(
        self: Box<Self>,
        launch: &Launch<'_>,
        start_relay: &StartRelay<'_>,
    ) -> Result<(Box<dyn RunningMediator>, Relay), RunError>;
}

/// A mediator that is ready.
pub(in crate::run) trait RunningMediator: Debug {
    /// Returns a descriptor that becomes readable when the mediator fails or ends.
    fn watched(&self) -> BorrowedFd<'_>;

    /// Returns a text if the mediator failed or ended. The supervisor calls this method when [`Self::watched`] is
    /// readable.
    fn failure(&mut self, dir: &RunDir) -> Option<String>;

    /// Returns a text if the run cannot continue. The supervisor calls this method many times a second.
    fn check(&mut self) -> Option<String> {
        None
    }

    /// Returns the number of open tunnels, whose receipts [`Self::end`] waits for.
    fn tunnels(&mut self) -> u64 {
        0
    }

    /// Ends the mediator: sends SIGTERM, gives it time to close its session, then sends SIGKILL. `tunnels` is the
    /// result of [`Self::tunnels`] before the relay ended, and `allowed` counts the requests and tunnels that the relay
    /// has forwarded.
    ///
    /// If the mediator does not end or make progress in time, it is killed and the exit status is 125. A Pipelock that
    /// still scans after a minute is also killed, but the run keeps the command's status, because only the end of the
    /// receipts is then unproven.
    fn end(self: Box<Self>, tunnels: u64, allowed: LetThrough) -> MediatorEnd;
}

/// The values that a mediator is started with.
pub(in crate::run) struct Launch<'r> {
    pub(in crate::run) boundary: &'r Boundary,
    pub(in crate::run) context: &'r RunContext,
    /// Signs the posture capsule of a run. The argument is the run's policy.
    pub(in crate::run) sign: &'r dyn Fn(&str) -> Signed,
    /// Key of the digests that replace queries in receipts and flow log.
    pub(in crate::run) redaction_key: &'r Key,
}

/// How the relay adapts to the mediator.
#[derive(Debug, Default)]
pub(in crate::run) struct RelayOptions {
    pub(in crate::run) plain_http: PlainHttp,
    /// Length at which the mediator may truncate the body of an answer without notice.
    pub(in crate::run) answer_cut: Option<u64>,
    /// Mark that the mediator puts on its own answers.
    pub(in crate::run) mark: Option<String>,
    /// Patterns of the policy by which the mediator redacts targets.
    pub(in crate::run) patterns: Patterns,
}

/// The policy that the mediator enforced.
#[derive(Debug, Clone)]
pub(in crate::run) struct PolicyInForce {
    /// The exact bytes of the packet's `policy.yaml`.
    pub(in crate::run) yaml: String,
    /// The policy's `mode`. Only `strict` enforces the allow-list.
    pub(in crate::run) mode: String,
    /// Keys of the caller's policy whose value was replaced.
    pub(in crate::run) overridden: Vec<String>,
}

/// The mediator's part of the packet.
#[derive(Debug)]
pub(in crate::run) struct MediatorRecord {
    /// `mediator` in `boundary.json`.
    pub(in crate::run) document: boundary::MediatorDocument,
    pub(in crate::run) plain_http: PlainHttp,
    pub(in crate::run) scanner: ScannerConfig,
    /// Notices for the caller.
    pub(in crate::run) notices: Vec<Notice>,
}

/// A mediator that has ended.
#[derive(Debug)]
pub(in crate::run) struct MediatorEnd {
    pub(in crate::run) policy: PolicyInForce,
    /// The posture capsule that the mediator's session binds.
    pub(in crate::run) capsule: Option<Signed>,
    pub(in crate::run) record: MediatorRecord,
    /// Why the receipts are not complete.
    pub(in crate::run) incomplete: Vec<String>,
    /// Whether the mediator failed to end normally.
    pub(in crate::run) failed: bool,
}
