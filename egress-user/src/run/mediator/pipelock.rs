//! A real Pipelock as the mediator.
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use audit_packet::format::Name;
use audit_packet::format::boundary::{self, MediatorDocument, PolicyNotice};
use audit_packet::model::ScannerConfig;
use egress_pipelock::facts::Facts;
use egress_pipelock::http::Gate;
use egress_pipelock::ports::Ports;
use egress_pipelock::start::{self, Setup};
use egress_pipelock::{LetThrough, Pipelock};
use egress_relay::plan::PlainHttp;

use super::role::{
    Launch, MediatorEnd, MediatorRecord, MediatorSetup, PolicyInForce, Relay, RelayOptions,
    RunningMediator, StartRelay,
};
use crate::bpf::Callers;
use crate::run::error::{RunError, system};
use crate::run::notice::{Notice, NoticeKind};
use crate::run::plan::PipelockChoice;
use crate::run::state::{RunDir, random_hex};

/// A connection from a loopback port reaches Pipelock only if the port was noted here, because the kernel programs deny
/// all others.
impl Gate for Callers {
    fn note(&mut self, port: u16, may_call: bool) -> io::Result<()> {
        Self::note(self, port, may_call)
    }
}

/// A Pipelock with its reserved ports.
#[derive(Debug)]
pub(super) struct PipelockSetup {
    choice: PipelockChoice,
    ports: Ports,
}

impl PipelockSetup {
    /// Reserves the ports.
    ///
    /// # Errors
    /// Fails if the kernel has no free port.
    pub(super) fn new(choice: PipelockChoice) -> Result<Self, RunError> {
        let ports = system("listen on the host's loopback", Ports::hold())?;
        Ok(Self { choice, ports })
    }
}

impl MediatorSetup for PipelockSetup {
    fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.ports.proxy.address().into())
    }

    fn start(
        self: Box<Self>,
        launch: &Launch<'_>,
        start_relay: &StartRelay<'_>,
    ) -> Result<(Box<dyn RunningMediator>, Relay), RunError> {
        let Self { choice, ports } = *self;
        let (boundary, context) = (launch.boundary, launch.context);
        let token = system("create a token", random_hex::<32>())?;
        let setup = Setup {
            dir: context.dir.path(),
            id: context.users.host,
            cgroup: boundary.cgroups.mediator.as_fd(),
            binary: &choice.binary,
            roots: choice.roots.as_deref(),
            authority: choice.authority.as_ref(),
            caller_yaml: context.plan.policy.text.as_deref(),
            identity: &context.plan.agent_identity,
            key: &context.plan.signer.key,
            sign: launch.sign,
            ports: &ports,
            token: &token,
        };
        let mut pipelock = Pipelock::start(&setup, Box::new(boundary.gates.callers()?))?;
        let relay = start_relay(RelayOptions {
            plain_http: choice.plain_http,
            answer_cut: pipelock.policy().answer_cut,
            mark: None,
            patterns: pipelock.policy().patterns.clone(),
        })?;
        pipelock.wait_ready(&setup)?;
        let running = RunningPipelock {
            pipelock,
            binary: choice.binary,
            plain_http: choice.plain_http,
        };
        Ok((Box::new(running), relay))
    }
}

/// A Pipelock while it runs.
#[derive(Debug)]
struct RunningPipelock {
    pipelock: Pipelock,
    /// Path of the binary, as the caller named it or as it was found on PATH.
    binary: PathBuf,
    plain_http: PlainHttp,
}

impl RunningMediator for RunningPipelock {
    fn watched(&self) -> BorrowedFd<'_> {
        self.pipelock.pidfd()
    }

    fn failure(&mut self, _dir: &RunDir) -> Option<String> {
        self.pipelock.gone()
    }

    fn check(&mut self) -> Option<String> {
        self.pipelock.look()
    }

    fn tunnels(&mut self) -> u64 {
        // If Pipelock does not answer, the result at its end reports the failure.
        self.pipelock.tunnels().unwrap_or_default()
    }

    fn end(self: Box<Self>, tunnels: u64, allowed: LetThrough) -> MediatorEnd {
        let policy = self.pipelock.policy();
        let policy = PolicyInForce {
            yaml: policy.yaml.clone(),
            mode: policy.mode.clone(),
            overridden: policy.overridden.clone(),
        };
        let capsule = Some(self.pipelock.capsule().clone());
        let ended = self.pipelock.end(&self.binary, tunnels, allowed);
        MediatorEnd {
            policy,
            capsule,
            record: record(&ended.facts, self.plain_http),
            incomplete: ended.incomplete,
            failed: ended.failed,
        }
    }
}

fn for_caller(facts: &Facts) -> Vec<Notice> {
    let raised = facts.raised_limits().map(|text| Notice {
        kind: NoticeKind::RaisedLimits,
        text,
    });
    let others = facts.lines().into_iter().map(Notice::general);
    others.chain(raised).collect()
}

fn record(facts: &Facts, plain_http: PlainHttp) -> MediatorRecord {
    let path = |path: &Path| Name::from(path.to_string_lossy());
    let notices = facts.notices.iter().map(|notice| PolicyNotice {
        key: notice.key.as_str().into(),
        effect: notice.effect.into(),
    });
    let document = MediatorDocument::Pipelock {
        plain_http: plain_http.label().into(),
        pipelock: Box::new(boundary::Pipelock {
            given: path(&facts.given),
            binary_sha256: facts.binary_sha256.as_ref().map(Into::into),
            version: facts
                .version
                .as_deref()
                .filter(|text| !text.is_empty())
                .map(Into::into),
            roots_sha256: facts.roots_sha256.as_ref().map(Into::into),
            posture: facts.posture.map(|posture| match posture {
                start::Binding::Bound => boundary::Binding::Bound,
                start::Binding::NotKnown => boundary::Binding::NotKnown,
            }),
            raised: facts.raised.clone(),
            redact: facts.redact,
            left_out: facts.left_out.clone(),
            notices: notices.collect(),
            allowed: facts.allowed.to_vec(),
            killed: facts.killed,
            notes: facts.notes.clone(),
        }),
    };
    MediatorRecord {
        document,
        plain_http,
        // Pipelock does not report what it scans.
        scanner: ScannerConfig {
            flight_recorder_enabled: Some(true),
            ..ScannerConfig::default()
        },
        notices: for_caller(facts),
    }
}
