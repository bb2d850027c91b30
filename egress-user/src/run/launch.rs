//! `Prepared → Running`: starts the mediator and the relay, and the command only when both are ready.
use egress_sandbox::shares;
use egress_sys::clock;
use egress_sys::privileges::Enforced;

use super::agent_root::AgentRoot;
use super::boundary::Boundary;
use super::context::RunContext;
use super::ending::NotExecuted;
use super::enforcement::RunningNetwork;
use super::error::{RunError, system};
use super::flows::FlowLog;
use super::init::Started;
use super::prepare::Prepared;
use super::streams::Pumps;

/// A run whose command was started.
#[derive(Debug)]
#[must_use = "the command is running"]
pub struct Running(Live);

/// The parts of a run whose command was started. The fields are dropped in this order, so that the boundary ends every
/// process of the run before anything else is dropped.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) boundary: Boundary,
    pub(super) network: Box<dyn RunningNetwork>,
    pub(super) command: Command,
    pub(super) flows: FlowLog,
    pub(super) context: RunContext,
}

/// The command of a run.
#[derive(Debug)]
pub(super) struct Command {
    /// Threads that pass on the command's standard streams.
    pub(super) pumps: Pumps,
    /// Use of tables that no kernel controller limits.
    pub(super) shares: shares::Watch,
    /// The state of the command's first process after it dropped its privileges, as the kernel reports this state.
    pub(super) enforced: Enforced,
    /// Why the command could not be executed.
    pub(super) not_executed: Option<NotExecuted>,
    pub(super) started_at: String,
}

impl Running {
    pub(super) fn into_live(self) -> Live {
        self.0
    }
}

impl Prepared {
    /// Starts the mediator and the relay, waits until both are ready, and starts the command.
    ///
    /// # Errors
    /// Fails if a process is not ready in time, or the command's process could not drop its privileges.
    pub fn launch(self) -> Result<Running, RunError> {
        let (mut context, streams, network, mut boundary) = self.into_parts();
        let is_open = network.keeps_host_network();
        let init = boundary.init.child.pid;
        let allowed = context.measured.opened.iter().map(|one| one.id).collect();
        let agent_root = AgentRoot::of(init, allowed);
        let agent_root = system("open the boundary's root", agent_root)?;
        let network = network.launch(&boundary, &mut context)?;
        let init = (!is_open).then(|| init.as_raw().cast_unsigned());
        let shares = shares::Watch::begin(context.plan.limits.shares, init);
        let shares = system(
            "read how much of its shared tables the machine uses",
            shares,
        )?;
        let Started {
            enforced,
            not_executed,
        } = boundary.init.go(&context.dir)?;
        let started_at = clock::now_rfc3339();
        context.timeline.mark("command executed");
        let pumps = streams.pump(&context.plan);
        let pumps = system("pass on the command's output", pumps)?;
        // The file of the flow log shows that the run is supervised, so it is created last.
        let flows = FlowLog::create(&context.dir.path().join("flows.jsonl"), Some(agent_root));
        let mut flows = system("start the flow log", flows)?;
        network.begin(&mut flows)?;
        Ok(Running(Live {
            boundary,
            network,
            command: Command {
                pumps,
                shares,
                enforced,
                not_executed,
                started_at,
            },
            flows,
            context,
        }))
    }
}
