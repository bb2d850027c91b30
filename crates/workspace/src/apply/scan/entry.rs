//! One look at the upper layer: what it judges by, the places and entries that it meets, the moves that it finds.
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

/// What the changes are judged by.
#[derive(Debug)]
pub struct Rules<'a> {
    /// The workspace's absolute path.
    pub workspace: &'a Path,
    /// What no change may touch.
    pub protected: &'a Protected,
    /// What changed later than this was changed by a host process.
    pub began: (i64, i64),
}

/// One look at the upper layer.
pub(super) struct Scan<'a> {
    pub(super) rules: &'a Rules<'a>,
    pub(super) root: &'a OwnedFd,
    pub(super) ways: &'a Ways<'a>,
    pub(super) moves: BTreeMap<RelPath, Move>,
    /// Moves that an earlier look found impossible: their new place was refused.
    pub(super) impossible: &'a BTreeSet<RelPath>,
    pub(super) slots: u64,
    pub(super) digests: Digests,
    pub(super) changes: Changes,
    /// Takes what moves out of the workspace, before all other steps.
    pub(super) moved_out: Vec<Planned>,
    pub(super) steps: Vec<Planned>,
}

/// A directory that the agent moved.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) slot: u64,
    /// What it is, to be found again; or why it stays where it is.
    pub(super) verdict: Result<Identity, Reason>,
    /// Whether its new place could take it.
    pub(super) placed: bool,
}

/// A directory of the upper layer with all that its entries are judged by.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) upper: &'a OwnedFd,
    pub(super) path: &'a RelPath,
    pub(super) lower: Option<&'a LowerHalf>,
    pub(super) zone: Zone,
    /// Why nothing in it is applied.
    pub(super) held: Option<&'a Reason>,
}

/// An entry of the upper layer.
pub(super) struct Entry<'a> {
    pub(super) name: &'a OsStr,
    pub(super) path: RelPath,
    pub(super) stat: FileStat,
    /// What the workspace has at this path, once everything that moved away is gone.
    pub(super) old: Option<FileStat>,
    pub(super) held: Option<Reason>,
}
