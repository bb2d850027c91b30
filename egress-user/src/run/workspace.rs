//! The workspace at the start of a run: what is in it, and its mount.
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use egress_workspace::Access;
use egress_workspace::apply::{self, Recovered};
use egress_workspace::credentials::{self, Exchange, Found, Redaction, Shown};
use egress_workspace::git_search;
use egress_workspace::store::{COPY, Purpose, SHOWN, Store};

use super::error::{RunError, system};
use super::plan::{Plan, WorkspaceMode};

/// Completes or undoes what killed runs left beside the workspace.
pub(super) fn recover(plan: &Plan) -> Result<Vec<Recovered>, RunError> {
    system(
        "complete what a killed run left beside the workspace",
        apply::recover(&plan.workdir),
    )
}

/// Credentials that the agent would find, in the workspace and in the configuration of the machine.
pub(super) fn credentials(plan: &Plan) -> Result<Found, RunError> {
    let home = plan.environment.iter().find(|(name, _)| name == "HOME");
    system(
        "look for stored credentials in git's configuration",
        git_search::find(&plan.workdir, home.map(|(_, home)| Path::new(home))),
    )
}

/// What of it no layer and no copy of the workspace covers: it gets a mount.
pub(super) fn covered(
    plan: &Plan,
    redactions: &[Redaction],
    agent: u32,
) -> Result<Vec<(PathBuf, Shown)>, RunError> {
    let exchange = system(
        "read the workspace's owner",
        Exchange::of(&plan.workdir, agent),
    )?;
    let is_live = matches!(
        plan.workspace,
        WorkspaceMode::Direct | WorkspaceMode::ReadOnly
    );
    Ok(redactions
        .iter()
        .filter_map(|one| {
            let path = one.path.clone();
            match path.starts_with(&plan.workdir) {
                true if is_live => Some((path, one.shown.mapped(exchange))),
                true => None,
                false => Some((path, one.shown.clone())),
            }
        })
        .collect())
}

/// The workspace's mount, and where its changes go if they are kept apart.
///
/// # Order
/// While this process has one thread, and after what killed runs left was dealt with.
pub(super) fn mounted(
    plan: &Plan,
    run: &str,
    agent: u32,
    redactions: &[Redaction],
) -> Result<(Option<Store>, OwnedFd), RunError> {
    let failed = |source| RunError::Workspace {
        path: plan.workdir.clone(),
        source,
    };
    let store = |purpose| Store::create(&plan.workdir, run, agent, purpose).map_err(failed);
    let mapped = |access| egress_workspace::mapped(&plan.workdir, agent, access).map_err(failed);
    match plan.workspace {
        WorkspaceMode::Apply | WorkspaceMode::Discard => {
            let tree = mapped(Access::ReadOnly)?;
            let store = store(Purpose::Layer)?;
            let layer = store.dir(SHOWN).map_err(failed)?;
            credentials::fill_layer(&by_descriptor(&layer), store.about(), redactions)
                .map_err(failed)?;
            Ok((Some(store), tree))
        }
        WorkspaceMode::Copy => {
            let store = store(Purpose::Copy)?;
            apply::copy::copy(&store).map_err(failed)?;
            let copy = store.dir(COPY).map_err(failed)?;
            credentials::put_into_copy(&copy, store.about(), redactions).map_err(failed)?;
            apply::copy::end(&store).map_err(failed)?;
            let tree = egress_workspace::plain(&copy).map_err(failed)?;
            Ok((Some(store), tree))
        }
        WorkspaceMode::ReadOnly => Ok((None, mapped(Access::ReadOnly)?)),
        WorkspaceMode::Direct => Ok((None, mapped(Access::ReadWrite)?)),
    }
}

/// A path of a directory that is held, for as long as it is: nobody can put another in its place.
fn by_descriptor(dir: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}
