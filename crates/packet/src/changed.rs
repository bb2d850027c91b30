//! Finds changes in `changes.json` that no run makes or applies.
//!
//! The rules by which a change is applied depend on the host's workspace, which the packet does not contain. A change is
//! impossible only if these rules deny it in every workspace.
use std::collections::BTreeSet;

use egress_policy::configuration::{self, Pattern};
use egress_policy::git_zone::{Kind, Zone, is_git_name, is_too_deep};
use egress_policy::path_text::unescape;

use super::format::Name;
use super::format::boundary::Workspace;
use super::format::changes::{Change, ChangeOutcome, ChangesDocument, EntryKind, WhatChanged};
use super::format::words::WorkspaceMode;

#[cfg(test)]
mod tests;

/// SHA-256 of no bytes.
const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Mode of a reduced file.
const REDUCED_MODE: &str = "0644";
/// The set-user-ID and set-group-ID bits.
const SETID: u32 = 0o6000;

/// The rules of one run, and the paths of its changes.
struct Rules {
    allowed: Vec<Pattern>,
    /// Protected paths below the workspace.
    protected: Vec<Vec<u8>>,
    /// Git directories that the command created and that were applied.
    created: BTreeSet<Vec<u8>>,
}

/// Returns the reasons why the changes, or the stated rules of the workspace, are impossible. Each reason appears once.
pub(super) fn impossible(document: &ChangesDocument, workspace: &Workspace) -> BTreeSet<String> {
    let mut reasons = BTreeSet::new();
    let stated = workspace.protected_by_default.iter();
    if !stated.map(Name::as_str).eq(configuration::NAMES) {
        reasons.insert(String::from("the names that are protected by default"));
    }
    let parsed = workspace.allowed_changes.iter().map(|text| text.parse());
    let allowed: Vec<Pattern> = parsed.flatten().collect();
    if allowed.len() != workspace.allowed_changes.len() {
        reasons.insert(String::from("an allowed change that is not a pattern"));
    }
    let applied = |change: &&Change| change.outcome == ChangeOutcome::Applied;
    let is_new = |change: &&Change| change.change == WhatChanged::Created;
    let created = document.changes.iter().filter(applied).filter(is_new);
    let created = created.filter_map(|change| unescape(&change.path));
    let begin = format!("{}/", workspace.path.trim_end_matches('/'));
    let protected = workspace.protected.iter();
    // The text of a path that is not UTF-8 does not have its exact bytes.
    let protected = protected.filter(|path| !path.contains(char::REPLACEMENT_CHARACTER));
    let protected = protected.filter_map(|path| path.strip_prefix(&begin));
    let rules = Rules {
        allowed,
        protected: protected.map(|path| path.as_bytes().to_vec()).collect(),
        created: created.collect(),
    };
    let mut seen = BTreeSet::new();
    for change in &document.changes {
        if !seen.insert(&change.path) {
            reasons.insert(String::from("a path twice"));
        }
        reasons.extend(rules.judge(change).map(str::to_owned));
    }
    if has_change_below_a_file(&document.changes) {
        reasons.insert(String::from("a path below a path that is not a directory"));
    }
    let is_discarded = workspace.mode == WorkspaceMode::Discard;
    if is_discarded && document.changes.iter().any(|change| applied(&change)) {
        reasons.insert(String::from(
            "an applied change, although all changes were discarded",
        ));
    }
    reasons
}

impl Rules {
    /// Returns why a change is impossible.
    fn judge(&self, change: &Change) -> Option<&'static str> {
        let is_applied = change.outcome == ChangeOutcome::Applied;
        let Some(path) = unescape(&change.path).filter(|path| is_below(path, !is_applied)) else {
            return Some("a path that is not below the workspace");
        };
        let from = change.from.as_ref().map(|from| unescape(from));
        let from = from.map(|from| from.filter(|from| is_below(from, false)));
        if from == Some(None) || from.is_some() != (change.change == WhatChanged::Moved) {
            return Some(
                "a previous path of a directory that was not moved, or none of one that was",
            );
        }
        if !has_members_of_its_kind(change) {
            return Some("a member that its kind does not have");
        }
        if change.reduced && !may_be_reduced(change, &path) {
            return Some("a reduced file that is not the configuration of a new repository");
        }
        let content = change.size.zip(change.sha256.as_deref());
        if content.is_some_and(|(size, digest)| (size == 0) != (digest == OF_NOTHING)) {
            return Some("a length that does not fit the digest");
        }
        let mode = change.mode.as_ref();
        let mode = mode.and_then(|mode| u32::from_str_radix(mode, 8).ok());
        let has_setid = mode.is_some_and(|mode| mode & SETID != 0);
        let is_file = change.kind == EntryKind::File && change.change != WhatChanged::Deleted;
        if is_applied && is_file && !change.reduced && has_setid != change.setid_dropped {
            return Some("an applied file with a setuid or setgid bit");
        }
        if !is_applied {
            return None;
        }
        self.applies(change, &path)
            .or_else(|| from.flatten().and_then(|from| self.protects(change, &from)))
    }

    /// Returns why a change to this path is never applied.
    fn applies(&self, change: &Change, path: &[u8]) -> Option<&'static str> {
        let is_deleted = change.change == WhatChanged::Deleted;
        let Some(kind) = kind(&change.kind) else {
            return Some("a kind that is never applied");
        };
        if !is_deleted && matches!(kind, Kind::Device | Kind::Fifo | Kind::Socket) {
            return Some("a kind that is never applied");
        }
        if is_too_deep(path) {
            return Some("a path that is too deep");
        }
        if let Some(reason) = self.protects(change, path) {
            return Some(reason);
        }
        let is_merged = change.change == WhatChanged::Modified && kind == Kind::Directory;
        (!self.fits_git(path, kind, is_merged)).then_some("a change in a git directory")
    }

    /// Returns the reason if the path is protected. A directory is not protected if an allowed path may be below it.
    fn protects(&self, change: &Change, path: &[u8]) -> Option<&'static str> {
        let may_lead = change.kind == EntryKind::Directory && change.change != WhatChanged::Deleted;
        let is_allowed = self
            .allowed
            .iter()
            .any(|pattern| pattern.covers(path) || (may_lead && pattern.reaches_below(path)));
        if configuration::holds(path) && !is_allowed {
            return Some("a path that is protected by default");
        }
        let is_within = |other: &Vec<u8>| {
            let rest = path.strip_prefix(other.as_slice());
            rest.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
        };
        let is_protected = self.protected.iter().any(is_within);
        is_protected.then_some("a protected path")
    }

    /// Whether the change is applied in some workspace. Whether a directory other than `.git` is a git directory
    /// depends on the host's workspace. In an ordinary directory, the git rules deny only changes to `.git`.
    fn fits_git(&self, path: &[u8], kind: Kind, is_merged: bool) -> bool {
        let mut zones = vec![Zone::Plain];
        let mut at: Vec<u8> = Vec::new();
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let Some((last, directories)) = names.split_last() else {
            return false;
        };
        for name in directories {
            if !at.is_empty() {
                at.push(b'/');
            }
            at.extend_from_slice(name);
            let is_new = *name == b".git" && self.created.contains(&at);
            let mut next: Vec<Zone> = Vec::new();
            for zone in zones {
                let new = (zone == Zone::Plain && is_new).then_some(Zone::NewGit);
                let known = [zone.child(name, false), zone.child(name, true)];
                for zone in known.into_iter().chain(new) {
                    if !next.contains(&zone) {
                        next.push(zone);
                    }
                }
            }
            zones = next;
            // In an ordinary directory, the git rules allow everything that they allow in a git directory.
            if zones.contains(&Zone::Plain) && !is_git_name(name) {
                zones = vec![Zone::Plain];
            }
        }
        let is_repository = *last == b".git" && kind == Kind::Directory;
        zones.iter().any(|zone| {
            zone.entry(last, kind, is_merged).is_ok() || (*zone == Zone::Plain && is_repository)
        })
    }
}

/// Whether an entry that the command left is below another entry that is not a directory.
fn has_change_below_a_file(changes: &[Change]) -> bool {
    let left = changes
        .iter()
        .filter(|change| change.change != WhatChanged::Deleted);
    let others = left
        .clone()
        .filter(|change| change.kind != EntryKind::Directory);
    let others: BTreeSet<&str> = others.map(|change| change.path.as_str()).collect();
    left.into_iter().any(|change| {
        let places = change.path.match_indices('/');
        let above = places.filter_map(|(at, _)| change.path.get(..at));
        above.into_iter().any(|path| others.contains(path))
    })
}

/// Whether a change may be the reduced configuration of a repository that the command created.
fn may_be_reduced(change: &Change, path: &[u8]) -> bool {
    let begin = path.strip_suffix(b".git/config");
    change.change == WhatChanged::Created
        && begin.is_some_and(|begin| begin.is_empty() || begin.ends_with(b"/"))
        && change.mode.as_deref() == Some(REDUCED_MODE)
        && !change.setid_dropped
}

/// Whether a change has only members that its kind has. A deleted path has no members about its former content.
fn has_members_of_its_kind(change: &Change) -> bool {
    let is_deleted = change.change == WhatChanged::Deleted;
    let is_file = change.kind == EntryKind::File;
    let has_content = change.size.is_some() || change.sha256.is_some();
    let is_changed = change.setid_dropped || change.reduced;
    let is_described = has_content || is_changed;
    let is_left = is_described || change.mode.is_some() || change.target.is_some();
    (is_file || !is_described)
        && !(is_deleted && is_left)
        && (change.kind == EntryKind::Symlink || change.target.is_none())
        && (change.kind == EntryKind::Directory || change.from.is_none())
}

/// Whether a path consists only of names, so that it cannot lead out of the workspace.
fn is_below(path: &[u8], may_be_empty: bool) -> bool {
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    (path.is_empty() && may_be_empty) || path.split(|byte| *byte == b'/').all(is_name)
}

fn kind(kind: &EntryKind) -> Option<Kind> {
    Some(match kind {
        EntryKind::Device => Kind::Device,
        EntryKind::Directory => Kind::Directory,
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::File => Kind::File,
        EntryKind::Socket => Kind::Socket,
        EntryKind::Symlink => Kind::Symlink,
        EntryKind::Unknown(_) => return None,
    })
}
