//! The state of one pass over the upper layer: its rules, the directories and entries of the pass,
//! and the moves that it finds.
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::stat::FileStat;

use crate::apply::content::Digests;
use crate::apply::judge::{Protected, Reason, Zone};
use crate::apply::layer::LowerHalf;
use crate::apply::model::{Changes, Planned};
use crate::apply::path::RelPath;
use crate::apply::tree::Identity;
use crate::apply::way::Ways;

/// The inputs by which changes are judged.
#[derive(Debug)]
pub struct Rules<'a> {
    /// Absolute path of the workspace.
    pub workspace: &'a Path,
    /// Paths that no change may touch.
    pub protected: &'a Protected,
    /// Entries that changed after this time were changed by a host process.
    pub began: (i64, i64),
    /// Whether the workspace is inside a repository of the host.
    pub is_in_repository: bool,
}

/// One pass over the upper layer.
pub(super) struct Scan<'a> {
    pub(super) rules: &'a Rules<'a>,
    pub(super) root: &'a OwnedFd,
    pub(super) ways: &'a Ways<'a>,
    pub(super) moves: BTreeMap<RelPath, Move>,
    /// Moves that an earlier pass found impossible because their new place was refused.
    pub(super) impossible: &'a BTreeSet<RelPath>,
    pub(super) slots: u64,
    pub(super) digests: Digests,
    pub(super) changes: Changes,
    /// Steps that take moved directories out of the workspace, before all other steps.
    pub(super) moved_out: Vec<Planned>,
    pub(super) steps: Vec<Planned>,
    /// The reduced configurations of new repositories.
    pub(super) rewritten: Vec<(RelPath, String)>,
}

/// A directory that the command moved.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) slot: u64,
    /// The directory's identity, by which a step finds the directory again, or the reason why it
    /// stays.
    pub(super) verdict: Result<Identity, Reason>,
    /// Whether its new place was accepted.
    pub(super) placed: bool,
}

/// A directory of the upper layer, with everything needed to judge its entries.
#[derive(Clone, Copy)]
pub(super) struct UpperDir<'a> {
    pub(super) upper: &'a OwnedFd,
    pub(super) path: &'a RelPath,
    pub(super) lower: Option<&'a LowerHalf>,
    pub(super) zone: Zone,
    /// Whether the command may make this directory the work tree of a new repository. False if the host has the
    /// directory in a repository, because the new repository would hide the host's.
    pub(super) may_have_repository: bool,
    /// The reason if no entry in the directory may be applied.
    pub(super) held: Option<&'a Reason>,
}

/// An entry of the upper layer.
pub(super) struct UpperEntry<'a> {
    pub(super) name: &'a OsStr,
    pub(super) path: RelPath,
    pub(super) stat: FileStat,
    /// The workspace's entry at this path, not counting directories that move away.
    pub(super) old: Option<FileStat>,
    pub(super) held: Option<Reason>,
}
