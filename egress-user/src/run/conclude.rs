//! The workspace at the end of a run: what becomes of the agent's changes.
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use egress_workspace::apply::judge::Protected;
use egress_workspace::apply::path::RelPath;
use egress_workspace::apply::{self, Concluded, Decision};

use super::ending::Ending;
use super::plan::WorkspaceMode;
use super::running::Running;

impl Running {
    /// Applies what the agent changed, or keeps it apart. A boundary that failed leaves the workspace
    /// as it was, and so does an agent that may still be there.
    pub(super) fn conclude(&self, ending: &Ending) -> io::Result<Option<Concluded>> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        if self.cgroups.agent.is_populated()? {
            return Err(io::Error::other("processes of the agent are left"));
        }
        let set_back = self.timeline.clock.set_back();
        if self.plan.workspace == WorkspaceMode::Copy {
            let altered = self.measured.credentials.redactions.iter();
            let altered = altered
                .filter_map(|one| one.path.strip_prefix(&self.plan.workdir).ok())
                .map(|path| RelPath(path.as_os_str().as_bytes().to_vec()))
                .collect();
            let plan = apply::compare::compare(store, &altered, set_back)?;
            return Ok(Some(Concluded {
                plan,
                archive: None,
                lost: None,
            }));
        }
        let protected = self
            .measured
            .masked
            .iter()
            .chain(&self.plan.protected)
            .chain(
                self.measured
                    .credentials
                    .redactions
                    .iter()
                    .map(|one| &one.path),
            )
            .map(PathBuf::as_path);
        let protected = Protected::new(&self.plan.workdir, protected);
        let failed = matches!(ending, Ending::Failed(_));
        let decision = if self.plan.workspace == WorkspaceMode::Apply && !failed {
            Decision::Apply
        } else {
            Decision::Discard
        };
        apply::conclude(store, &protected, decision, set_back).map(Some)
    }
}
