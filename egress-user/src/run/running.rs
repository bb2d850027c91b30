//! A run in progress: all that is held while the agent runs.
use egress_relay::plan::Report;
use egress_sandbox::cgroup::RunCgroups;
use egress_sandbox::limits::Caps;
use egress_sandbox::shares;
use egress_sys::privileges::Enforced;
use egress_workspace::apply::Recovered;
use egress_workspace::store::Store;
use egress_workspace::users::UserLease;

use super::agent_fds::AgentFds;
use super::agent_root::AgentRoot;
use super::error::RunError;
use super::flows::FlowLog;
use super::heartbeat::Watched;
use super::helper::Helper;
use super::ingest::drain;
use super::init::Init;
use super::mediator::Mediator;
use super::plan::Plan;
use super::prepare::Measured;
use super::reach::Reach;
use super::state::RunDir;
use super::stdio::Pumps;
use super::timeline::Timeline;
use crate::bpf::Gates;
use crate::bpf::events::Events;

/// A run in progress. Fields drop in this order: the agent first, the gates after all processes.
#[derive(Debug)]
#[must_use = "the agent is running"]
pub struct Running {
    pub(super) init: Init,
    pub(super) relay: Option<Helper<Report>>,
    pub(super) mediator: Mediator,
    pub(super) cgroups: RunCgroups,
    pub(super) caps: Caps,
    pub(super) gates: Gates,
    pub(super) events: Events,
    /// None in an audit, which has no mediator.
    pub(super) reach: Option<Reach>,
    pub(super) pumps: Pumps,
    pub(super) shares: shares::Watch,
    pub(super) held: AgentFds,
    pub(super) agent_root: Option<AgentRoot>,
    pub(super) users: UserLease,
    pub(super) store: Option<Store>,
    pub(super) recovered: Vec<Recovered>,
    pub(super) measured: Measured,
    pub(super) enforced: Enforced,
    pub(super) not_executed: Option<i32>,
    pub(super) started_at: String,
    pub(super) timeline: Timeline,
    pub(super) dir: RunDir,
    pub(super) plan: Plan,
}

impl Running {
    pub(super) fn watched(&self) -> Watched<'_> {
        Watched::of(
            &self.gates,
            &self.cgroups.agent,
            &self.init.child,
            &self.enforced,
        )
    }

    pub(super) fn drain_events(&mut self, flows: &mut FlowLog) -> Result<(), RunError> {
        drain(&mut self.gates, &mut self.events, flows)
    }
}
