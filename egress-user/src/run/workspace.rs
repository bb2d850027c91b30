//! Prepares the workspace at the start of a run: finds stored credentials, and creates the mount of the workspace.
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use egress_workspace::Access;
use egress_workspace::apply::{self, Recovered};
use egress_workspace::credentials::{self, Exchange, Found, Redaction, Shown};
use egress_workspace::git_search::{self, Places};
use egress_workspace::store::{COPY, Purpose, SHOWN, Store};
use pipelock_receipts::keys::PRIVATE_HEADER;

use super::error::{RunError, system};
use super::plan::{Plan, WorkspaceMode};

/// The workspace as the command will see it.
#[derive(Debug)]
pub(super) struct MountedWorkspace {
    /// Changes that killed runs had left beside the workspace, and how this run handled them.
    pub(super) recovered: Vec<Recovered>,
    /// Credentials that the command would find in the workspace and in other files of the host.
    pub(super) credentials: Found,
    /// Files with credentials that get a mount, because no layer and no copy of the workspace hides them.
    pub(super) covered: Vec<(PathBuf, Shown)>,
    /// The store of the command's changes, if they are stored separately.
    pub(super) store: Option<Store>,
    /// The mount, which is not attached anywhere yet.
    pub(super) tree: OwnedFd,
}

/// Completes or undoes the changes of killed runs, hides credentials, and creates the mount.
///
/// # Order
/// Call this while the process has a single thread.
///
/// # Errors
/// Fails if the search for credentials fails, a credential cannot be hidden, or the mount cannot be created.
pub(super) fn mount(plan: &Plan, run: &str, agent: u32) -> Result<MountedWorkspace, RunError> {
    let recovered = system(
        "complete or undo the changes that a killed run left beside the workspace",
        apply::recover(&plan.workdir),
    )?;
    let credentials = system(
        "search for stored credentials",
        git_search::find(&Places {
            workspace: &plan.workdir,
            home: plan.caller_home.as_deref(),
            tools: &plan.tools,
            masked: &plan.masked,
            wanted: &plan.shown_credentials,
            key: PRIVATE_HEADER,
        }),
    )?;
    let (store, tree) = mounted(plan, run, agent, &credentials.redactions)?;
    Ok(MountedWorkspace {
        recovered,
        covered: covered(plan, &credentials.redactions, agent)?,
        credentials,
        store,
        tree,
    })
}

/// Returns the files with credentials that no layer and no copy of the workspace hides.
fn covered(
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

/// Creates the mount, and the store of the changes if they are stored separately.
fn mounted(
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

/// Returns a path that leads to `dir` while the descriptor `dir` is open, even if another directory takes the place of
/// `dir`.
fn by_descriptor(dir: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}
