//! Compares `changes.json` with `boundary.json` and the archive of changes.
use pipelock_receipts::findings::Findings;

use super::super::as_stated;
use super::super::changed::impossible;
use super::super::format::boundary::ChangeCounts;
use super::super::format::changes::{Change, ChangeOutcome, EntryKind, WhatChanged};
use super::super::format::words::WorkspaceMode;
use super::super::grade::{Caps, Grade};
use super::super::names::{BOUNDARY_FILE, CHANGES_ARCHIVE, CHANGES_FILE};
use super::{Statements, deviates, differs};

impl Statements<'_> {
    /// Checks that `changes.json` exists if the command did not work on the workspace itself, and that `boundary.json`
    /// states the counts of the entries of `changes.json`.
    pub(super) fn changes(self, findings: &mut Findings, caps: &mut Caps) {
        let document = self.changes.map(|changes| {
            deviates(CHANGES_FILE, Some(changes.deviations.clone()), caps);
            changes.document.as_ref()
        });
        let workspace = &self.boundary_document.workspace;
        let (counts, document) = match (&workspace.changes, document) {
            (None, None) => return,
            (Some(_), None) => {
                let expected = "the changes to the workspace";
                differs(findings, CHANGES_FILE, expected, "no such file");
                return;
            }
            (None, Some(_)) => {
                let expected =
                    "no list of changes, because the command worked on the workspace itself";
                differs(findings, CHANGES_FILE, expected, "a list of changes");
                return;
            }
            (Some(counts), Some(document)) => (counts, document),
        };
        let Some(document) = document else {
            differs(
                findings,
                CHANGES_FILE,
                "a list of changes",
                "a document that cannot be read",
            );
            return;
        };
        if !keeps_changes(&workspace.mode) {
            let found = format!("changes in the mode {}", workspace.mode);
            let expected = "no changes, because the command worked on the workspace itself";
            differs(findings, BOUNDARY_FILE, expected, &found);
        }
        if document.mode != workspace.mode {
            let (expected, found) = (workspace.mode.as_str(), document.mode.as_str());
            differs(findings, CHANGES_FILE, expected, found);
        }
        self.not_applied(&document.changes, findings);
        for reason in impossible(document, workspace) {
            caps.cap(
                Grade::KernelObserved,
                format!("{CHANGES_FILE} contradicts the rules of the workspace: {reason}"),
            );
        }
        let counted = ChangeCounts {
            applied: document.count(&ChangeOutcome::Applied),
            refused: document.count(&ChangeOutcome::Refused),
            conflicts: document.count(&ChangeOutcome::Conflict),
            discarded: document.count(&ChangeOutcome::Discarded),
        };
        let is_known = |one: &Change| !matches!(one.outcome, ChangeOutcome::Unknown(_));
        if *counts != counted || !document.changes.iter().all(is_known) {
            let expected = format!("workspace.changes {}", as_stated(&counted));
            differs(findings, BOUNDARY_FILE, &expected, &as_stated(counts));
        }
    }

    /// Checks that each change that was not applied has a reason, and that the archive keeps its files. A deleted file
    /// cannot be kept, and entries other than files need not be kept.
    fn not_applied(self, changes: &[Change], findings: &mut Findings) {
        let is_applied = |change: &Change| change.outcome == ChangeOutcome::Applied;
        if changes
            .iter()
            .any(|change| change.reason.is_some() == is_applied(change))
        {
            let expected = "a reason for each change that was not applied, and for no other";
            let found = "a change without a reason, or an applied one with a reason";
            differs(findings, CHANGES_FILE, expected, found);
        }
        let (must_be, may_be) = expected_archive(&self.boundary_document.workspace.mode, changes);
        if self
            .has_archive
            .is_some_and(|is_there| (must_be && !is_there) || (is_there && !may_be))
        {
            let (archive, found) = if must_be {
                ("an archive", "no such file")
            } else {
                ("no archive", "an archive")
            };
            let expected = format!("{archive} of the changes that were not applied");
            differs(findings, CHANGES_ARCHIVE, &expected, found);
        } else if let Some(found) = self.archive {
            let expected = "the changes that were not applied, as in changes.json";
            differs(findings, CHANGES_ARCHIVE, expected, found);
        }
    }
}

/// Whether egress lists the changes of a run with this mode.
fn keeps_changes(mode: &WorkspaceMode) -> bool {
    !matches!(mode, WorkspaceMode::Direct | WorkspaceMode::ReadOnly)
}

/// Returns whether there must be an archive, and whether there may be one. Changes to a copy of the workspace are only
/// listed.
fn expected_archive(mode: &WorkspaceMode, changes: &[Change]) -> (bool, bool) {
    if *mode == WorkspaceMode::Copy {
        return (false, false);
    }
    let is_left = |change: &&Change| change.outcome != ChangeOutcome::Applied;
    let mut left = changes.iter().filter(is_left);
    let may_be = left.clone().next().is_some();
    let is_file =
        |change: &Change| change.change != WhatChanged::Deleted && change.kind == EntryKind::File;
    (left.any(is_file), may_be)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_has_the_files_that_were_not_applied_unless_the_workspace_was_copied() {
        let change = |kind, what, outcome| Change {
            kind,
            change: what,
            outcome,
            ..Change::default()
        };
        let refused = change(
            EntryKind::File,
            WhatChanged::Created,
            ChangeOutcome::Refused,
        );
        let deleted = change(
            EntryKind::File,
            WhatChanged::Deleted,
            ChangeOutcome::Refused,
        );
        let pipe = change(
            EntryKind::Fifo,
            WhatChanged::Created,
            ChangeOutcome::Refused,
        );
        let applied = change(
            EntryKind::File,
            WhatChanged::Created,
            ChangeOutcome::Applied,
        );
        for (changes, expected) in [
            (vec![applied.clone()], (false, false)),
            (vec![applied, deleted, pipe], (false, true)),
            (vec![refused], (true, true)),
        ] {
            let found = expected_archive(&WorkspaceMode::Apply, &changes);
            assert_eq!(found, expected);
            let copied = expected_archive(&WorkspaceMode::Copy, &changes);
            assert_eq!(copied, (false, false));
        }
    }
}
