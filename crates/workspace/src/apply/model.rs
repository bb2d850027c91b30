//! The data types of applying: changes, and the steps that apply each change.
use std::io;

use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};

use super::judge::{Kind, Reason};
use super::path::RelPath;
use super::tree::{self, Identity};

/// How an entry changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The entry is new.
    Created,
    /// The entry was deleted.
    Deleted,
    /// The content, permissions or attributes of the entry differ.
    Modified,
    /// A directory was renamed.
    Moved,
}

/// What was done about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeOutcome {
    /// The change is in the workspace.
    Applied,
    /// A rule denied the change.
    Refused,
    /// The change was not applied because the host changed the same entry. The host's version
    /// stays.
    Conflict,
    /// The change was not applied because no change of this run is applied.
    Discarded,
}

/// One change that the command made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Path of the changed entry below the workspace.
    pub path: RelPath,
    /// How the entry changed.
    pub change: What,
    /// The kind of the entry, or its former kind if it was deleted.
    pub kind: Kind,
    /// The former path of a moved directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<RelPath>,
    /// Permission bits in octal, including bits that were removed when the change was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Length of a file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256 of a file's content in lowercase hex, unless the digests of all files would cover too many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The target of a symbolic link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<RelPath>,
    /// Whether the setuid or setgid bit was removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub setid_dropped: bool,
    /// Whether the file is the configuration of a new repository, reduced to settings that cannot run a program. Length
    /// and digest are those of the reduced file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reduced: bool,
    /// What was done about the change.
    pub outcome: ChangeOutcome,
    /// Why the change was not applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

impl Change {
    /// Describes a changed entry, without its content. The change is applied unless it is refused.
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
            reduced: false,
            outcome: ChangeOutcome::Applied,
            reason: None,
        }
    }

    /// Returns the change of a deleted entry. `was` is the former metadata of the entry.
    pub fn deleted(path: RelPath, was: &FileStat) -> Self {
        Self {
            mode: None,
            size: None,
            ..Self::of(path, What::Deleted, was)
        }
    }

    /// Marks the change as not applied.
    pub fn refuse(&mut self, reason: Reason) {
        self.outcome = if reason == Reason::ChangedMeanwhile {
            ChangeOutcome::Conflict
        } else if reason == Reason::WholeRun {
            ChangeOutcome::Discarded
        } else {
            ChangeOutcome::Refused
        };
        self.reason = Some(reason);
    }
}

/// The longest list of changes as JSON, in bytes. The list has room for more than a million changes with ordinary
/// names, but the command can create names that need fifty times as much space.
const LONGEST: u64 = 256 << 20;

/// A list of changes with a bounded length.
#[derive(Debug)]
pub struct Changes {
    /// The changes, each directory before its entries.
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
    /// Adds a change to the list.
    ///
    /// # Errors
    /// Fails if the list is full.
    pub fn push(&mut self, change: Change) -> io::Result<()> {
        let mut length = Length(0);
        serde_json::to_writer(&mut length, &change)?;
        self.left = self.left.checked_sub(length.0).ok_or_else(|| {
            io::Error::other(
                "the command changed more files than the list of changes can hold (256 MiB)",
            )
        })?;
        self.list.push(change);
        Ok(())
    }
}

/// Counts the bytes that are written.
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

/// A step of applying. A step can be repeated after an interruption, and then detects that it is
/// already done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Moves an entry with everything in it out of the workspace.
    TakeOut {
        /// The path of the entry.
        path: RelPath,
        /// Number of the entry among the entries that were taken out.
        slot: u64,
        /// The identity that the entry must have.
        identity: Identity,
    },
    /// Moves a directory that was taken out to its new place.
    PutBack {
        /// Number of the entry among the entries that were taken out.
        slot: u64,
        /// The former path.
        from: RelPath,
        /// The new path.
        path: RelPath,
    },
    /// Creates a directory.
    MakeDirectory {
        /// The path of the directory.
        path: RelPath,
    },
    /// Sets the permissions, attributes, and time of a directory, after all changes in it.
    FinishDirectory {
        /// The path of the directory.
        path: RelPath,
        /// Permission bits, without setuid and setgid.
        mode: u32,
        /// Time of the last modification, in seconds and nanoseconds.
        modified: (i64, i64),
    },
    /// Moves a new entry from the upper layer to the same path in the workspace.
    Place {
        /// The path of the entry.
        path: RelPath,
    },
    /// Exchanges an entry of the upper layer with the workspace's entry at the same path.
    Exchange {
        /// The path of the entry.
        path: RelPath,
        /// Inode of the new entry.
        fresh: u64,
        /// The identity that the old entry must have.
        identity: Identity,
    },
}

impl Step {
    /// Returns the path in the workspace that the step changes.
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

/// A step, with the change to which it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// Index of the change in [`Plan::changes`].
    pub of: usize,
    /// The step.
    pub step: Step,
}

/// All changes of a run, and the ordered steps that apply them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The changes, each directory before its entries.
    pub changes: Vec<Change>,
    /// The steps, in order.
    pub steps: Vec<Planned>,
    /// The text that files of the upper layer get before the first step: the reduced configurations
    /// of new repositories.
    #[serde(skip)]
    pub rewritten: Vec<(RelPath, String)>,
}

impl Plan {
    /// Returns the number of changes with this outcome.
    pub fn count(&self, outcome: ChangeOutcome) -> usize {
        self.changes
            .iter()
            .filter(|change| change.outcome == outcome)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: list-limit
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
        assert_eq!(Changes::default().left, 256 << 20);
        // A short name can be long in JSON.
        assert!(changes.push(change(&[1; 200])).is_err());
        while changes.push(change(b"name")).is_ok() {}
        let length = serde_json::to_vec(&changes.list).unwrap().len();
        assert!((850..1000).contains(&length), "{length}");
    }
}
