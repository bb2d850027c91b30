//! What `changes.json` states of the workspace, and `boundary.json` and the archive with it.
use std::collections::BTreeMap;

use pipelock_receipts::findings::Findings;
use pipelock_receipts::json::{MAX_DEPTH, Node, parse_bytes};

use super::super::grade::Caps;
use super::super::names::{BOUNDARY_FILE, CHANGES_ARCHIVE, CHANGES_FILE};
use super::super::{as_stated, form};
use super::{Statements, deviates, differs};

/// The outcomes that `boundary.json` counts, whether or not there is a change of each.
const OUTCOMES: [&str; 4] = ["applied", "refused", "conflicts", "discarded"];

/// One change, as far as it is compared.
struct Change<'a> {
    what: &'a str,
    kind: &'a str,
    outcome: &'a str,
    has_reason: bool,
}

impl Statements<'_> {
    /// `changes.json` is there where changes were kept apart, and its rows are those that `boundary.json` counts.
    pub(super) fn changes(self, findings: &mut Findings, caps: &mut Caps) {
        let node = self.changes.map(|bytes| parse_bytes(bytes, MAX_DEPTH));
        let deviations = node.as_ref().map(|node| match node {
            Ok(node) => form::of_changes(node),
            Err(error) => vec![error.to_string()],
        });
        deviates(CHANGES_FILE, deviations, caps);
        let workspace = &self.measured.workspace;
        let (counts, node) = match (&workspace.changes, node) {
            (None, None) => return,
            (Some(_), None) => {
                let expected = "the changes to the workspace";
                differs(findings, CHANGES_FILE, expected, "no such file");
                return;
            }
            (None, Some(_)) => {
                let expected = "no changes that were kept apart";
                differs(findings, CHANGES_FILE, expected, "a list of them");
                return;
            }
            (Some(counts), Some(node)) => (counts, node),
        };
        let Some((mode, changes)) = node.as_ref().ok().and_then(read) else {
            differs(
                findings,
                CHANGES_FILE,
                "a list of changes",
                "something else",
            );
            return;
        };
        if mode != workspace.mode {
            differs(findings, CHANGES_FILE, &workspace.mode, mode);
        }
        self.not_applied(&changes, findings);
        let mut counted: BTreeMap<String, u64> =
            OUTCOMES.map(|outcome| (outcome.to_owned(), 0)).into();
        for change in &changes {
            let outcome = match change.outcome {
                "conflict" => "conflicts",
                other => other,
            };
            let count = counted.entry(outcome.to_owned()).or_default();
            *count = count.saturating_add(1);
        }
        if *counts != counted {
            let expected = format!("workspace.changes {}", as_stated(&counted));
            differs(findings, BOUNDARY_FILE, &expected, &as_stated(counts));
        }
    }

    /// What was not applied has a reason, and its files are kept. What is gone cannot be kept, and other kinds need not be.
    fn not_applied(self, changes: &[Change<'_>], findings: &mut Findings) {
        if changes
            .iter()
            .any(|change| change.has_reason == (change.outcome == "applied"))
        {
            let expected = "a reason for each change that was not applied";
            differs(findings, CHANGES_FILE, expected, "another");
        }
        let mut left = changes.iter().filter(|change| change.outcome != "applied");
        let may_be = left.clone().next().is_some();
        let must_be = left.any(|change| change.what != "deleted" && change.kind == "file");
        if self
            .has_archive
            .is_some_and(|is_there| (must_be && !is_there) || (is_there && !may_be))
        {
            let archive = if must_be { "an archive" } else { "no archive" };
            let expected = format!("{archive} of what was not applied");
            differs(findings, CHANGES_ARCHIVE, &expected, "the opposite");
        }
    }
}

/// The mode and the changes of a document; nothing if a member that is read is not there, or has another type.
fn read<'a>(document: &'a Node<'_>) -> Option<(&'a str, Vec<Change<'a>>)> {
    let text = |node: &'a Node<'_>, name| node.member(name).and_then(Node::text);
    let change = |node: &'a Node<'_>| {
        Some(Change {
            what: text(node, "change")?,
            kind: text(node, "kind")?,
            outcome: text(node, "outcome")?,
            has_reason: node
                .member("reason")
                .is_some_and(|reason| !reason.is_null()),
        })
    };
    let items = document.member("changes")?.items()?;
    let changes: Option<Vec<_>> = items.iter().map(change).collect();
    Some((text(document, "mode")?, changes?))
}
