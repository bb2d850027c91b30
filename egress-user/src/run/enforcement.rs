//! How a run treats the command's network. [`setup`] is the only function that selects the network by `--mode`.
mod audit;
mod enforce;
mod network;

use std::os::fd::BorrowedFd;

use audit::Audit;
use enforce::Enforce;
pub(super) use network::{NetworkSetup, RunningNetwork};

use super::error::RunError;
use super::plan::{Mode, Plan};
use super::state::RunDir;

/// Prepares the network of the plan's mode. `cgroup` is the mediator's cgroup.
///
/// # Errors
/// Fails if the mediator's sockets cannot be created, or the policy is invalid.
pub(super) fn setup(
    plan: &Plan,
    dir: &RunDir,
    cgroup: BorrowedFd<'_>,
) -> Result<Box<dyn NetworkSetup>, RunError> {
    Ok(match plan.mode {
        Mode::Enforce => Box::new(Enforce::new(plan, dir, cgroup)?),
        Mode::Audit => Box::new(Audit::new(plan, dir)?),
    })
}
