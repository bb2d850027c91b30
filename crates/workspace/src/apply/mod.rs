//! Brings the agent's changes from the overlay's upper layer into the workspace, or keeps them apart.
//!
//! `scan` reads and judges, `judge` holds the rules, `journal` makes the result durable, `commit` takes
//! the steps. All of it runs when no process of the agent is left.
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
pub mod path;
pub mod scan;
pub mod tree;
pub mod way;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::store::{Store, UPPER};
use judge::{Protected, Reason};
use model::{Outcome, Plan};
use scan::Rules;

/// In a store: the tar of what was not applied.
const ARCHIVE: &str = "changes.tar";
/// In a store: the tar of what was refused when a killed run's changes were applied.
const RECOVERED: &str = "recovered.tar";

/// What is to be done with the changes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Those that the rules allow come into the workspace.
    Apply,
    /// None does.
    Discard,
}

/// What became of a run's changes.
#[derive(Debug)]
pub struct Concluded {
    /// All changes with their outcomes.
    pub plan: Plan,
    /// A tar of those that were not applied, if there are any.
    pub archive: Option<File>,
    /// Why there is none although there are some.
    pub lost: Option<io::Error>,
}

/// Judges what the agent changed and applies what may be. The clock of the file system was at most
/// `set_back` behind the time that it had when the run began.
///
/// # Errors
/// When the changes cannot be read, or applying cannot begin; the workspace is as it was then.
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
    };
    let upper = store.dir(UPPER)?;
    let mut plan = scan::scan(&upper, &store.workspace()?, &rules)?;
    match decision {
        Decision::Apply => {
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
    // Whatever becomes of that, the list says what is in the workspace by now.
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

/// Makes the file `name` of `store`: a tar of what was not applied. One that is not whole takes no room.
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

/// What was done about a killed run's changes.
#[derive(Debug, serde::Serialize)]
pub struct Recovered {
    /// The workspace.
    pub workspace: PathBuf,
    /// Whether applying had begun and was completed; otherwise the workspace is as it was.
    pub completed: bool,
    /// Changes that are in the workspace now.
    pub applied: usize,
    /// Changes that are not, though applying had begun.
    pub refused: usize,
    /// Where they are kept.
    pub kept: Option<PathBuf>,
}

/// Completes what killed runs left beside `workspace` or in it: one that was cut off while it applied is
/// carried on, one that had not begun is undone, which takes no more than removing its store.
/// Runs that are alive, and runs of another workspace beside this one, are left alone.
///
/// # Errors
/// When a store cannot be read, or its list cannot be carried out; the store stays.
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
    recovered.applied = plan.count(Outcome::Applied);
    recovered.refused = plan.changes.len() - recovered.applied;
    // That of an attempt which was cut off.
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
