//! The mediator of a run. [`setup`] is the only function that selects a mediator.
mod builtin;
mod pipelock;
mod role;

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use builtin::BuiltinSetup;
use pipelock::PipelockSetup;
pub(super) use role::{
    Launch, MediatorEnd, MediatorRecord, MediatorSetup, PolicyInForce, Relay, RelayOptions,
    RunningMediator,
};

use super::error::RunError;
use super::plan::{MediatorChoice, Plan};
use super::state::RunDir;

/// Prepares the plan's mediator to listen on the host's loopback. `cgroup` is the mediator's cgroup.
///
/// # Errors
/// Fails if no port is free, or the policy cannot be built.
pub(super) fn setup(
    plan: &Plan,
    dir: &RunDir,
    cgroup: BorrowedFd<'_>,
) -> Result<Box<dyn MediatorSetup>, RunError> {
    Ok(match &plan.mediator {
        MediatorChoice::Builtin => Box::new(BuiltinSetup::new(plan, dir, cgroup)?),
        MediatorChoice::Pipelock(choice) => Box::new(PipelockSetup::new(choice.clone())?),
    })
}

/// Returns the mediator's part of the packet for a run without a mediator: the built-in mediator and its policy, as
/// they would be if the run were enforced.
///
/// # Errors
/// Fails if the caller's policy is invalid.
pub(super) fn absent(
    plan: &Plan,
    dir: &RunDir,
    address: SocketAddr,
) -> Result<MediatorEnd, RunError> {
    Ok(MediatorEnd {
        policy: builtin::policy_in_force(builtin::runtime_policy(plan, dir, address)?),
        capsule: None,
        record: builtin::record(),
        incomplete: Vec::new(),
        failed: false,
    })
}
