//! `changes.json`: the changes of the command to its workspace, if the command did not work on the
//! workspace itself.
use serde::{Deserialize, Serialize};

use super::value::{Name, OctalMode, Sha256};
use super::words::WorkspaceMode;

words! {
    /// The version of the document.
    ChangesSchema {
        /// The current version.
        V0 = "egress.changes.v0",
    }

    /// The kind of a change to a path.
    WhatChanged {
        /// The path is new.
        Created = "created",
        /// The path was deleted.
        Deleted = "deleted",
        /// The content, the permissions, or the attributes of the path changed.
        Modified = "modified",
        /// A directory was moved to this path.
        Moved = "moved",
    }

    /// The type of a path. For a deleted path, the type before the deletion.
    EntryKind {
        /// A device node.
        Device = "device",
        /// A directory.
        Directory = "directory",
        /// A named pipe.
        Fifo = "fifo",
        /// A regular file.
        File = "file",
        /// A socket.
        Socket = "socket",
        /// A symbolic link.
        Symlink = "symlink",
    }

    /// The outcome of a change.
    ChangeOutcome {
        /// The change was applied to the workspace.
        Applied = "applied",
        /// A rule denied the change.
        Refused = "refused",
        /// The change was not applied, because a host process changed the same path during the run.
        Conflict = "conflict",
        /// No change of the run is applied.
        Discarded = "discarded",
    }

    /// The rule because of which a change was not applied.
    ChangeRule {
        /// A host process changed the same path during the run.
        ChangedMeanwhile = "changed_meanwhile",
        /// The path is configuration of an agent or a CI system that makes later code run
        /// (`workspace.protected_by_default` in `boundary.json`).
        Configuration = "configuration",
        /// The path is a device node.
        Device = "device",
        /// The path is a named pipe.
        Fifo = "fifo",
        /// The path is in a git directory and does not belong to the data of the repository.
        GitDirectory = "git_directory",
        /// The path is a git index that cannot be read, or that has a name outside the workspace or in a git directory.
        GitIndex = "git_index",
        /// The path is in the `.github` at the top of the workspace.
        Github = "github",
        /// The change to a directory above or below the path was not applied.
        HeldBack = "held_back",
        /// The directory would become a git repository.
        LooksLikeGitDirectory = "looks_like_git_directory",
        /// The path is a new file `.git`, or a new directory `.git` that would hide a repository of the host.
        NewGitDirectory = "new_git_directory",
        /// The owner of the workspace lacks the permission.
        NotPermitted = "not_permitted",
        /// Another file system is mounted at the path.
        OtherFileSystem = "other_file_system",
        /// The path is a symbolic link that points outside the workspace.
        PointsOutside = "points_outside",
        /// The path is protected (`--protect`, policy, keys, packet directory).
        Protected = "protected",
        /// The path is a socket.
        Socket = "socket",
        /// The path is too long or too deep.
        TooDeep = "too_deep",
        /// No change of the run is applied.
        WholeRun = "whole_run",
        /// The change is to the permissions of the workspace itself.
        WorkspaceItself = "workspace_itself",
    }
}

documents! {
    /// `changes.json`.
    ChangesDocument {
        [
            /// The value of `workspace.mode` in `boundary.json`.
            mode: WorkspaceMode,
            /// One entry for each changed path, except templates of `git init` that have no effect. A directory comes before
            /// its contents.
            changes: Vec<Change>,
        ]
        /// `egress.changes.v0`.
        schema_version: ChangesSchema,
    }

    /// A change of one path.
    Change {
        [
            /// Kind of the change.
            change: WhatChanged,
            /// Type of the path. For a deleted path, the type before the deletion.
            kind: EntryKind,
            /// The outcome of the change.
            outcome: ChangeOutcome,
        ]
        /// Path below the workspace. A backslash is doubled, and a byte that is not UTF-8 is `\xNN`. Empty for the
        /// workspace itself.
        path: String,
        /// Previous path of a moved directory.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Name"))]
        from: Option<Name>,
        /// Permission bits.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "OctalMode"))]
        mode: Option<OctalMode>,
        /// Length of a file.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "u64"))]
        size: Option<u64>,
        /// SHA-256 of a file's content.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Sha256"))]
        sha256: Option<Sha256>,
        /// Target of a symbolic link.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Name"))]
        target: Option<Name>,
        /// Whether the setuid or setgid bit was removed.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        setid_dropped: bool,
        /// Whether the file is the configuration of a new git repository, reduced to settings that cannot run a
        /// program. `size` and `sha256` are those of the reduced file.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        reduced: bool,
        /// The reason why the change was not applied.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "ChangeReason"))]
        reason: Option<ChangeReason>,
    }
}

/// The reason why a change was not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields)
)]
#[serde(untagged)]
pub enum ChangeReason {
    /// A rule denied the change.
    Rule(ChangeRule),
    /// A system call failed.
    Error {
        /// Error of the system call.
        io: Name,
    },
}

impl ChangesDocument {
    /// Counts the changes with this outcome.
    pub fn count(&self, outcome: &ChangeOutcome) -> u64 {
        let same = self.changes.iter().filter(|one| one.outcome == *outcome);
        u64::try_from(same.count()).unwrap_or(u64::MAX)
    }
}
