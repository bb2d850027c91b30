//! Finds and removes what killed runs left behind. This module never changes a run whose lock is held, or anything that
//! no run of this state directory created.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use egress_sandbox::cgroup::{self, Occupants};
use serde::Serialize;

use super::error::RunError;
use super::state::{self, Owner, STATE_DIR, StateLock};

/// Something that a killed run left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StaleItem {
    /// The kind of the item.
    pub kind: StaleKind,
    /// The path of the item.
    pub path: PathBuf,
}

/// Kinds of such items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StaleKind {
    /// The cgroup of a run whose directory does not exist.
    Cgroup,
    /// The directory of a killed run.
    Run,
    /// A directory with the name of a run, but without its lock. Such a directory is never changed.
    Unknown,
    /// A directory that was being created or removed.
    Unfinished,
}

/// Evidence of a killed run, which was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The id of the run.
    pub run: String,
    /// The directory with the flow log and, in `evidence`, the receipts.
    pub path: PathBuf,
}

/// The result of a sweep.
#[derive(Debug, Default)]
pub struct Swept {
    /// Evidence that was saved.
    pub kept: Vec<Kept>,
    /// Paths that were removed.
    pub removed: Vec<PathBuf>,
    /// Paths that could not be removed, each with its error.
    pub failed: Vec<(PathBuf, io::Error)>,
}

/// What a sweep covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepReach {
    /// Directories of runs, and the cgroups that are noted in them.
    Runs,
    /// The whole cgroup tree as well.
    Tree,
}

/// Lists what killed runs left behind.
///
/// # Errors
/// Fails if the state directory cannot be read or locked.
pub fn find() -> Result<Vec<StaleItem>, RunError> {
    let state = Path::new(STATE_DIR);
    locked(state, |_| list(state, SweepReach::Tree))
}

/// Removes what killed runs left behind, and moves their evidence to `/run/egress/kept`. The result lists the paths
/// that could not be removed.
///
/// # Errors
/// Fails if the state directory cannot be read or locked.
pub fn sweep(reach: SweepReach) -> Result<Swept, RunError> {
    let state = Path::new(STATE_DIR);
    locked(state, |_| {
        let mut swept = Swept::default();
        for leaving in list(state, reach)? {
            if leaving.kind == StaleKind::Unknown {
                continue;
            }
            match remove(state, &leaving) {
                Ok(kept) => {
                    swept.kept.extend(kept);
                    swept.removed.push(leaving.path);
                }
                Err(error) => swept.failed.push((leaving.path, error)),
            }
        }
        Ok(swept)
    })
}

/// Runs `work` under the lock of the state directory. If the directory does not exist, no run has left anything.
fn locked<T: Default>(
    state: &Path,
    work: impl FnOnce(&StateLock) -> io::Result<T>,
) -> Result<T, RunError> {
    let done = match fs::symlink_metadata(state) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        _ => StateLock::acquire(state).and_then(|lock| work(&lock)),
    };
    done.map_err(|source| RunError::State {
        path: state.to_path_buf(),
        source,
    })
}

fn list(state: &Path, reach: SweepReach) -> io::Result<Vec<StaleItem>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(state)? {
        let entry = entry?;
        let name = entry.file_name();
        let (Some(name), true) = (name.to_str(), entry.file_type()?.is_dir()) else {
            continue;
        };
        let path = entry.path();
        let kind = match name.strip_prefix('.') {
            Some(id) if state::is_run_id(id) => StaleKind::Unfinished,
            None if state::is_run_id(name) => match Owner::of(&path)? {
                Owner::Alive => continue,
                Owner::Dead(_) => StaleKind::Run,
                Owner::Unknown => StaleKind::Unknown,
            },
            _ => continue,
        };
        found.push(StaleItem { kind, path });
    }
    if reach == SweepReach::Tree {
        // Without a cgroup tree, there are no cgroups. The run itself reports that the cgroup tree is missing.
        let owner = state::owner_mark(state)?;
        for path in cgroup::of_runs(&owner).unwrap_or_default() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_orphan = cgroup::run_of(&name)
                .is_some_and(|id| state::is_run_id(id) && !state.join(id).exists());
            if is_orphan {
                let kind = StaleKind::Cgroup;
                found.push(StaleItem { kind, path });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn remove(state: &Path, leaving: &StaleItem) -> io::Result<Option<Kept>> {
    let path = &leaving.path;
    match leaving.kind {
        StaleKind::Cgroup => cgroup::remove(path, Occupants::Spare).map(|()| None),
        StaleKind::Unfinished => state::clear(path).map(|()| None),
        StaleKind::Unknown => Err(io::Error::other(
            "it has no lock, so no run of this version created it",
        )),
        StaleKind::Run => {
            let Owner::Dead(_lock) = Owner::of(path)? else {
                return Err(io::Error::other("its run is still running"));
            };
            if let Some(cgroup) = state::cgroup_of(path) {
                cgroup::remove(&cgroup, Occupants::Kill)?;
            }
            state::remove_limits(path)?;
            let run = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let kept = state::keep(state, path, &run)?;
            state::remove(path)?;
            Ok(kept.map(|path| Kept { run, path }))
        }
    }
}
