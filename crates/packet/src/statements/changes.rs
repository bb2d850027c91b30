//! Compares `changes.json` with `boundary.json` and the archive of changes.
use pipelock_receipts::findings::Findings;

use super::super::as_stated;
use super::super::changed::impossible;
use super::super::format::boundary::ChangeCounts;
use super::super::format::changes::{Change, ChangeOutcome, EntryKind, WhatChanged};
use super::super::grade::{Caps, Grade};
use super::super::names::{BOUNDARY_FILE, CHANGES_ARCHIVE, CHANGES_FILE};
use super::{Statements, deviates, differs};

impl Statements<'_> {
    /// Checks that `changes.json` exists if the command did not work on the workspace itself, and
    /// that `boundary.json` has the counts of its rows.
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
                let expected = "no list of changes, because none were kept apart";
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

    /// Checks that each change that was not applied has a reason, and that the archive keeps its
    /// files. A deleted file cannot be kept, and other kinds of changes need not be kept.
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
        let mut left = changes.iter().filter(|change| !is_applied(change));
        let may_be = left.clone().next().is_some();
        let must_be = left
            .any(|change| change.change != WhatChanged::Deleted && change.kind == EntryKind::File);
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
