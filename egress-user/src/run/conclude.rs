//! Concludes the workspace at the end of a run: applies the command's changes, or archives them.
//!
//! Claims: channel-changes
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use egress_workspace::apply::judge::Protected;
use egress_workspace::apply::path::RelPath;
use egress_workspace::apply::{self, Concluded, Decision};

use super::boundary::Boundary;
use super::context::RunContext;
use super::ending::Ending;
use super::plan::WorkspaceMode;

/// Applies the command's changes or archives them, as `--workspace` selects. Changes are never applied after the
/// boundary failed.
///
/// # Errors
/// Fails if a process of the command may still be running, or the changes cannot be read, applied, or archived.
pub(super) fn conclude(
    boundary: &Boundary,
    context: &RunContext,
    ending: &Ending,
) -> io::Result<Option<Concluded>> {
    let Some(store) = &boundary.store else {
        return Ok(None);
    };
    if boundary.cgroups.agent.is_populated()? {
        return Err(io::Error::other(
            "processes of the command are still running",
        ));
    }
    let plan = &context.plan;
    let redacted = context.measured.credentials.redactions.iter();
    let redacted = redacted.map(|one| &one.path);
    let set_back = context.timeline.clock.set_back();
    if plan.workspace == WorkspaceMode::Copy {
        let altered = redacted
            .filter_map(|path| path.strip_prefix(&plan.workdir).ok())
            .map(|path| RelPath(path.as_os_str().as_bytes().to_vec()))
            .collect();
        let plan = apply::compare::compare(store, &altered, set_back)?;
        return Ok(Some(Concluded {
            plan,
            archive: None,
            lost: None,
        }));
    }
    let masked = context.measured.masked.iter();
    let protected = masked.chain(&plan.protected).chain(redacted);
    let protected = Protected::new(
        &plan.workdir,
        protected.map(PathBuf::as_path),
        plan.allowed_changes.clone(),
    );
    let failed = matches!(ending, Ending::Failed(_));
    let decision = if plan.workspace == WorkspaceMode::Apply && !failed {
        Decision::Apply
    } else {
        Decision::Discard
    };
    apply::conclude(store, &protected, decision, set_back).map(Some)
}
