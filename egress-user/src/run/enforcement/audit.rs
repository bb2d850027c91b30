//! `--mode audit`: the command uses the host's network. The kernel programs record every attempt that enforcement would
//! deny. No process judges or carries traffic, no probe is run, and there are no receipts.
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;

use egress_pipelock::LetThrough;
use egress_sandbox::cgroup::RunCgroups;
use egress_workspace::users::UserLease;

use super::network::{NetworkEnd, NetworkSetup, RunningNetwork};
use crate::bpf::events::Events;
use crate::run::boundary::Boundary;
use crate::run::context::RunContext;
use crate::run::error::{RunError, system};
use crate::run::flows::FlowLog;
use crate::run::init::{Init, PassedSockets};
use crate::run::mediator::{self, MediatorEnd};
use crate::run::plan::Plan;
use crate::run::probes::{self, Probed};
use crate::run::reach::name_servers;
use crate::run::state::RunDir;
use crate::run::trust::Trust;

/// An address at which nothing listens, and to which the kernel programs let no process connect.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The network of an audit.
#[derive(Debug)]
pub(super) struct Audit {
    /// The policy that would be enforced.
    mediator: MediatorEnd,
}

impl Audit {
    /// Builds the policy that would be enforced.
    ///
    /// # Errors
    /// Fails if the caller's policy is invalid.
    pub(super) fn new(plan: &Plan, dir: &RunDir) -> Result<Self, RunError> {
        let mediator = mediator::absent(plan, dir, NOWHERE)?;
        Ok(Self { mediator })
    }
}

impl NetworkSetup for Audit {
    fn keeps_host_network(&self) -> bool {
        true
    }

    fn mediator_address(&self) -> io::Result<SocketAddr> {
        Ok(NOWHERE)
    }

    fn trust(&self, _plan: &Plan) -> io::Result<Trust> {
        Ok(Trust::default())
    }

    /// An audit does not run probes, because nothing would deny them and they would send packets.
    fn start_controls(
        &mut self,
        _plan: &Plan,
        _dir: &RunDir,
        _cgroups: &RunCgroups,
        _users: &UserLease,
    ) -> Result<(), RunError> {
        Ok(())
    }

    fn gates_are_attached(&self) {}

    fn probe(
        &mut self,
        init: &mut Init,
        _sockets: PassedSockets,
        events: &mut Events,
        dir: &RunDir,
    ) -> Result<Probed, RunError> {
        init.probe(None, dir)?;
        Ok(Probed {
            results: Vec::new(),
            seen_by_hooks: probes::discard(events)?,
        })
    }

    fn launch(
        self: Box<Self>,
        _boundary: &Boundary,
        _context: &mut RunContext,
    ) -> Result<Box<dyn RunningNetwork>, RunError> {
        Ok(self)
    }
}

impl RunningNetwork for Audit {
    /// Only answers from the caller's own name servers map an address to a name.
    fn begin(&self, flows: &mut FlowLog) -> Result<(), RunError> {
        flows.trust_name_servers(system("read the caller's name servers", name_servers())?);
        Ok(())
    }

    fn watched(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [None, None]
    }

    fn read_reports(
        &mut self,
        flows: &mut FlowLog,
        boundary: &mut Boundary,
    ) -> Result<Option<String>, RunError> {
        boundary.drain(flows, |_| Ok(())).map(|()| None)
    }

    fn check(&mut self, _is_readable: bool, _dir: &RunDir) -> Result<Option<String>, RunError> {
        Ok(None)
    }

    fn evidence_length(&self, _dir: &RunDir) -> io::Result<u64> {
        Ok(0)
    }

    fn end_relay(&mut self, _flows: &mut FlowLog) -> io::Result<()> {
        Ok(())
    }

    fn end(self: Box<Self>, _allowed: LetThrough, _context: &RunContext) -> NetworkEnd {
        NetworkEnd {
            mediator: self.mediator,
            evidence: Ok(Vec::new()),
            unverified: Some("audit mode: nothing was enforced, and there are no receipts"),
        }
    }
}
