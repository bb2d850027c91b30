//! The workspace of a run: its mount at the start, its changes at the end.
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::error::{RunError, system};
use super::plan::{Plan, WorkspaceMode};
use super::supervise::{Ending, Running};
use crate::apply::judge::Protected;
use crate::apply::{self, Concluded, Decision, Recovered};
use crate::boundary::workspace::store::{COPY, Purpose, Store};
use crate::boundary::workspace::{self, Access};

/// Completes or undoes what killed runs left beside the workspace.
pub(super) fn recover(plan: &Plan) -> Result<Vec<Recovered>, RunError> {
    system(
        "complete what a killed run left beside the workspace",
        apply::recover(&plan.workdir),
    )
}

/// The workspace's mount, and where its changes go if they are kept apart.
///
/// # Order
/// While this process has one thread, and after what killed runs left was dealt with.
pub(super) fn mounted(
    plan: &Plan,
    run: &str,
    agent: u32,
) -> Result<(Option<Store>, OwnedFd), RunError> {
    let failed = |source| RunError::Workspace {
        path: plan.workdir.clone(),
        source,
    };
    let store = |purpose| Store::create(&plan.workdir, run, agent, purpose).map_err(failed);
    let mapped = |access| workspace::mapped(&plan.workdir, agent, access).map_err(failed);
    match plan.workspace {
        WorkspaceMode::Apply | WorkspaceMode::Discard => {
            let tree = mapped(Access::ReadOnly)?;
            Ok((Some(store(Purpose::Layer)?), tree))
        }
        WorkspaceMode::Copy => {
            let store = store(Purpose::Copy)?;
            apply::copy::copy(&store).map_err(failed)?;
            let tree = workspace::plain(&store.path().join(COPY)).map_err(failed)?;
            Ok((Some(store), tree))
        }
        WorkspaceMode::ReadOnly => Ok((None, mapped(Access::ReadOnly)?)),
        WorkspaceMode::Direct => Ok((None, mapped(Access::ReadWrite)?)),
    }
}

impl Running {
    /// Applies what the agent changed, or keeps it apart. A boundary that failed leaves the workspace
    /// as it was, and so does an agent that may still be there.
    pub(super) fn conclude(&self, ending: &Ending) -> io::Result<Option<Concluded>> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        if self.plan.workspace == WorkspaceMode::Copy {
            return Ok(None);
        }
        if self.cgroups.agent.is_populated()? {
            return Err(io::Error::other("processes of the agent are left"));
        }
        let protected = self
            .measured
            .masked
            .iter()
            .chain(&self.plan.protected)
            .map(PathBuf::as_path);
        let protected = Protected::new(&self.plan.workdir, protected);
        let failed = matches!(ending, Ending::Failed(_));
        let decision = if self.plan.workspace == WorkspaceMode::Apply && !failed {
            Decision::Apply
        } else {
            Decision::Discard
        };
        apply::conclude(store, &protected, decision).map(Some)
    }
}
