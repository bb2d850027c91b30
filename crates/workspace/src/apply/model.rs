//! What applying works with: changes, and the steps that bring each into the workspace.
use std::io;

use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};

use super::judge::{Kind, Reason};
use super::path::RelPath;
use super::tree::{self, Identity};

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It is new.
    Created,
    /// It is gone.
    Deleted,
    /// Content, permissions or attributes differ.
    Modified,
    /// A directory that had another name.
    Moved,
}

/// What was done about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is in the workspace.
    Applied,
    /// It is not, by a rule.
    Refused,
    /// It is not: the host's version stayed.
    Conflict,
    /// It is not: nothing of this run is.
    Discarded,
}

/// One change that the agent made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Where, below the workspace.
    pub path: RelPath,
    /// What happened.
    pub change: What,
    /// What it is; what it was, if it was deleted.
    pub kind: Kind,
    /// Where a moved directory was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<RelPath>,
    /// Permission bits, octal; with the bits that were dropped on the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Length of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256 of a file's content, lowercase hex; none where holes would take too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where a symbolic link points to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<RelPath>,
    /// Whether setuid or setgid was taken from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub setid_dropped: bool,
    /// What was done about it.
    pub outcome: Outcome,
    /// Why it was not applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

impl Change {
    /// That of an entry, without what is in it; applied unless it is refused.
    pub fn of(path: RelPath, change: What, stat: &FileStat) -> Self {
        let kind = tree::kind(stat);
        Self {
            path,
            change,
            kind,
            from: None,
            mode: (kind != Kind::Symlink).then(|| format!("{:04o}", stat.st_mode & 0o7777)),
            size: (kind == Kind::File)
                .then_some(stat.st_size)
                .and_then(|size| u64::try_from(size).ok()),
            sha256: None,
            target: None,
            setid_dropped: false,
            outcome: Outcome::Applied,
            reason: None,
        }
    }

    /// That of an entry which is gone.
    pub fn deleted(path: RelPath, was: &FileStat) -> Self {
        Self {
            mode: None,
            size: None,
            ..Self::of(path, What::Deleted, was)
        }
    }

    /// Notes that it is not applied.
    pub fn refuse(&mut self, reason: Reason) {
        self.outcome = if reason == Reason::ChangedMeanwhile {
            Outcome::Conflict
        } else if reason == Reason::WholeRun {
            Outcome::Discarded
        } else {
            Outcome::Refused
        };
        self.reason = Some(reason);
    }
}

/// Length of a list of changes, in JSON: a million and more with names as programs choose them. A program can make
/// names that take fifty times as much, and there is memory for the list, not for whatever somebody makes.
const LONGEST: u64 = 256 << 20;

/// A list of changes that has an end.
#[derive(Debug)]
pub struct Changes {
    /// The changes, directories before what is in them.
    pub list: Vec<Change>,
    left: u64,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            left: LONGEST,
        }
    }
}

impl Changes {
    /// Adds one.
    ///
    /// # Errors
    /// When the list is full.
    pub fn push(&mut self, change: Change) -> io::Result<()> {
        let mut length = Length(0);
        serde_json::to_writer(&mut length, &change)?;
        self.left = self
            .left
            .checked_sub(length.0)
            .ok_or_else(|| io::Error::other("the command changed too many files to list them"))?;
        self.list.push(change);
        Ok(())
    }
}

/// Counts what is written.
struct Length(u64);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One step. Each can be taken again after it was cut off, and is then found to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Takes an entry out of the workspace, whole.
    TakeOut {
        /// Which.
        path: RelPath,
        /// Its name among what was taken out.
        slot: u64,
        /// What it must be.
        identity: Identity,
    },
    /// Puts a directory that was taken out to its new place.
    PutBack {
        /// Its name among what was taken out.
        slot: u64,
        /// Where it was.
        from: RelPath,
        /// Where it goes.
        path: RelPath,
    },
    /// Makes a directory.
    MakeDirectory {
        /// Where.
        path: RelPath,
    },
    /// Gives a directory its permissions, attributes and time, after everything in it.
    FinishDirectory {
        /// Which.
        path: RelPath,
        /// Permission bits.
        mode: u32,
        /// Time of its last modification.
        modified: (i64, i64),
    },
    /// Moves a new entry from the upper layer to the same path in the workspace.
    Place {
        /// Which.
        path: RelPath,
    },
    /// Exchanges an entry of the upper layer with the one in the workspace.
    Exchange {
        /// Which.
        path: RelPath,
        /// Inode of the new one.
        fresh: u64,
        /// What the old one must be.
        identity: Identity,
    },
}

impl Step {
    /// The path in the workspace that it changes.
    pub fn path(&self) -> &RelPath {
        match self {
            Self::TakeOut { path, .. }
            | Self::PutBack { path, .. }
            | Self::MakeDirectory { path }
            | Self::FinishDirectory { path, .. }
            | Self::Place { path }
            | Self::Exchange { path, .. } => path,
        }
    }
}

/// A step and the change that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// Index of its change.
    pub of: usize,
    /// The step.
    pub step: Step,
}

/// All changes of a run, and the steps in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Changes, directories before what is in them.
    pub changes: Vec<Change>,
    /// Steps.
    pub steps: Vec<Planned>,
}

impl Plan {
    /// How many changes came to `outcome`.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.changes
            .iter()
            .filter(|change| change.outcome == outcome)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_of_changes_has_an_end() {
        let change = |path: &[u8]| {
            let stat = nix::sys::stat::stat("/").unwrap();
            Change::of(RelPath(path.to_vec()), What::Created, &stat)
        };
        let mut changes = Changes {
            left: 1000,
            ..Changes::default()
        };
        // What is short as a name can be long in JSON.
        assert!(changes.push(change(&[1; 200])).is_err());
        while changes.push(change(b"name")).is_ok() {}
        let length = serde_json::to_vec(&changes.list).unwrap().len();
        assert!((850..1000).contains(&length), "{length}");
    }
}
