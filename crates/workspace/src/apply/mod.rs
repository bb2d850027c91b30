//! Applies the command's changes from the overlay's upper layer to the workspace, or stores them in
//! a tar.
//!
//! `scan` reads and judges the changes, `judge` holds the rules, `journal` makes the plan durable,
//! and `commit` executes its steps. All of this runs after the last process of the command has
//! ended.
pub mod archive;
pub mod commit;
pub mod compare;
pub mod content;
pub mod copy;
pub mod git_index;
pub mod journal;
pub mod judge;
pub mod layer;
pub mod model;
pub mod new_repository;
pub mod path;
pub mod scan;
pub mod tree;
pub mod way;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use crate::store::{Store, UPPER};
pub use egress_policy::configuration;
use judge::{Protected, Reason};
use model::{ChangeOutcome, Plan};
use path::RelPath;
use scan::Rules;

/// Name of the file in a store with a tar of the changes that were not applied.
const ARCHIVE: &str = "changes.tar";
/// Name of the file in a store with a tar of the changes that were refused when a later run applied
/// the changes of a killed run.
const RECOVERED: &str = "recovered.tar";

/// Whether the changes of a run are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Apply the changes that the rules allow.
    Apply,
    /// Apply no change.
    Discard,
}

/// The result for a run's changes.
#[derive(Debug)]
pub struct Concluded {
    /// All changes with their outcomes.
    pub plan: Plan,
    /// A tar of the changes that were not applied, if there are any.
    pub archive: Option<File>,
    /// Why the tar is missing although changes were not applied.
    pub lost: Option<io::Error>,
}

/// Judges the command's changes and applies the allowed ones. `set_back` is the largest amount by
/// which the clock was set back during the run. The recorded time of a change may be too early by
/// this much.
///
/// # Errors
/// Fails if the changes cannot be read or applying cannot start. The workspace is then unchanged. Also fails if an
/// entry that was taken out of the workspace cannot be put back. Other changes are then applied, and the store stays.
pub fn conclude(
    store: &Store,
    protected: &Protected,
    decision: Decision,
    set_back: Duration,
) -> io::Result<Concluded> {
    let rules = Rules {
        workspace: &store.about().workspace,
        protected,
        began: tree::earlier(store.about().began, set_back),
        is_in_repository: is_in_repository(&store.about().workspace),
    };
    let upper = store.dir(UPPER)?;
    let mut plan = scan::scan(&upper, &store.workspace()?, &rules)?;
    match decision {
        Decision::Apply => {
            rewrite(&upper, store.about().agent, &plan.rewritten)?;
            store.keep();
            journal::write(store.held(), &plan)?;
            commit::commit(store, &mut plan)?;
            store.release();
        }
        Decision::Discard => {
            plan.steps.clear();
            for change in &mut plan.changes {
                change.refuse(Reason::WholeRun);
            }
        }
    }
    // Even if the tar cannot be written, the plan records which changes are in the workspace now.
    let (archive, lost) = match archived(store, &upper, &plan, ARCHIVE) {
        Ok(archive) => (archive, None),
        Err(error) => (None, Some(error)),
    };
    Ok(Concluded {
        plan,
        archive,
        lost,
    })
}

/// Whether a directory above the workspace has a repository.
fn is_in_repository(workspace: &Path) -> bool {
    let mut above = workspace.ancestors().skip(1);
    above.any(|dir| dir.join(".git").symlink_metadata().is_ok())
}

/// Replaces files of the upper layer. Each one becomes a new file without other names, so that no
/// name of the old file leads to the new content.
fn rewrite(upper: &OwnedFd, agent: u32, files: &[(RelPath, String)]) -> io::Result<()> {
    for (path, text) in files {
        let (parent, name) = path.split();
        let dir = tree::beneath(upper, &parent, OFlag::O_RDONLY)?;
        unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&dir, name, flags, Mode::empty())?);
        file.write_all(text.as_bytes())?;
        fchmod(&file, Mode::from_bits_truncate(scan::REWRITTEN_MODE))?;
        fchown(
            &file,
            Some(Uid::from_raw(agent)),
            Some(Gid::from_raw(agent)),
        )?;
    }
    Ok(())
}

/// Writes the tar of changes that were not applied to the file `name` of `store`. An incomplete tar
/// is removed.
fn archived(store: &Store, upper: &OwnedFd, plan: &Plan, name: &str) -> io::Result<Option<File>> {
    let mut file = store.create_file(name)?;
    match archive::write(upper, plan, &mut file) {
        Ok(entries) => Ok((entries > 0).then_some(file)),
        Err(error) => {
            unlinkat(store.held(), name, UnlinkatFlags::NoRemoveDir)?;
            Err(error)
        }
    }
}

/// The result of handling the changes of a killed run.
#[derive(Debug, serde::Serialize)]
pub struct Recovered {
    /// The workspace.
    pub workspace: PathBuf,
    /// Whether applying had started and was completed. Otherwise the workspace is unchanged.
    pub completed: bool,
    /// Number of changes that are in the workspace now.
    pub applied: usize,
    /// Number of changes that are not in the workspace although applying had started.
    pub refused: usize,
    /// Path of the tar file with the changes that were not applied.
    pub kept: Option<PathBuf>,
}

/// Completes or removes the stores that killed runs left beside `workspace` or inside it. If a run
/// was killed while it applied changes, applying continues. If applying had not started, the store
/// of the killed run is removed. Live runs and runs of other workspaces are left alone.
///
/// # Errors
/// Fails if a store cannot be read or its plan cannot be executed. That store stays.
pub fn recover(workspace: &Path) -> io::Result<Vec<Recovered>> {
    let mut done = Vec::new();
    for store in Store::left_behind(workspace)? {
        done.push(carry_on(&store)?);
        store.release();
    }
    Ok(done)
}

fn carry_on(store: &Store) -> io::Result<Recovered> {
    let mut recovered = Recovered {
        workspace: store.about().workspace.clone(),
        completed: false,
        applied: 0,
        refused: 0,
        kept: None,
    };
    let Some(mut plan) = journal::read(store.held())? else {
        return Ok(recovered);
    };
    commit::commit(store, &mut plan)?;
    recovered.completed = true;
    recovered.applied = plan.count(ChangeOutcome::Applied);
    recovered.refused = plan.changes.len() - recovered.applied;
    // An earlier, interrupted recovery may have left this file.
    match unlinkat(store.held(), RECOVERED, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    if archived(store, &store.dir(UPPER)?, &plan, RECOVERED)?.is_some() {
        let name = store.path().file_name().unwrap_or_default();
        let name = name.to_string_lossy().replacen('.', "", 1);
        let name = format!("{name}-refused.tar");
        renameat(store.held(), RECOVERED, store.holder(), name.as_str())?;
        recovered.kept = Some(store.path().with_file_name(name));
    }
    Ok(recovered)
}
