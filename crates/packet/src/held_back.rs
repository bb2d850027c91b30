//! The changes of the command that were not applied to the workspace, in the order in which a reviewer needs them.
use egress_policy::natural;

use super::format::changes::{Change, ChangeOutcome, ChangeReason, ChangeRule, ChangesDocument};

use super::reasons;

/// Maximum number of changes that are kept.
const KEPT: usize = 100;
/// The directory that GitHub reads.
const GITHUB: &str = ".github";
/// The directory whose files GitHub runs.
pub(super) const WORKFLOWS: &str = ".github/workflows";

/// The changes that a rule, a conflict, or an error kept out of the workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldBack {
    /// The most important changes first: workflows, then `.github`, then git directories.
    pub(super) changes: Vec<Change>,
    /// Number of all changes that were held back.
    pub(super) count: u64,
    /// Number of these changes in `.github/workflows`.
    pub(super) workflows: u64,
    /// Number of changes that were discarded with the whole run.
    pub(super) discarded: u64,
    pub(super) applied: u64,
}

impl HeldBack {
    /// Returns the changes that were held back. Without `changes.json`, there are none.
    pub fn of(document: Option<&ChangesDocument>) -> Self {
        let Some(document) = document else {
            return Self::default();
        };
        let is_held = |change: &&Change| {
            matches!(
                change.outcome,
                ChangeOutcome::Refused | ChangeOutcome::Conflict | ChangeOutcome::Unknown(_)
            )
        };
        let mut held: Vec<&Change> = document.changes.iter().filter(is_held).collect();
        held.sort_by(|a, b| {
            let by_weight = weight(a).cmp(&weight(b));
            by_weight.then_with(|| natural::compare(&a.path, &b.path))
        });
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Self {
            count: number(held.len()),
            workflows: number(held.iter().filter(|one| is_below(one, WORKFLOWS)).count()),
            discarded: document.count(&ChangeOutcome::Discarded),
            applied: document.count(&ChangeOutcome::Applied),
            changes: held.into_iter().take(KEPT).cloned().collect(),
        }
    }
}

/// Returns the reason as text for people. A path below a new `.github` is held back for the same reason as that
/// directory.
pub(super) fn reason(change: &Change) -> &str {
    match &change.reason {
        Some(ChangeReason::Rule(ChangeRule::HeldBack)) if is_below(change, GITHUB) => {
            reasons::of_rule(&ChangeRule::Github)
        }
        Some(reason) => reasons::of_change(reason),
        None => "",
    }
}

/// Returns the rank of a change. A reviewer must see changes with a low rank first.
fn weight(change: &Change) -> u8 {
    let rule = match &change.reason {
        Some(ChangeReason::Rule(rule)) => Some(rule),
        Some(ChangeReason::Error { .. }) | None => None,
    };
    match rule {
        _ if is_below(change, WORKFLOWS) => 0,
        Some(ChangeRule::Github) => 1,
        _ if is_below(change, GITHUB) => 1,
        Some(
            ChangeRule::GitDirectory
            | ChangeRule::GitIndex
            | ChangeRule::LooksLikeGitDirectory
            | ChangeRule::NewGitDirectory,
        ) => 2,
        Some(ChangeRule::PointsOutside | ChangeRule::Protected) => 3,
        _ => 4,
    }
}

/// Whether the path is below this directory. Some file systems do not distinguish upper and lower case.
fn is_below(change: &Change, directory: &str) -> bool {
    let path = change.path.to_ascii_lowercase();
    let rest = path.strip_prefix(directory);
    rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workflows_come_first_and_discarded_changes_are_only_counted() {
        let change = |path: &str, outcome, rule: Option<ChangeRule>| Change {
            path: path.to_owned(),
            outcome,
            reason: rule.map(ChangeReason::Rule),
            ..Change::default()
        };
        let refused = |path: &str, rule| change(path, ChangeOutcome::Refused, Some(rule));
        let mut changes = vec![
            change("a", ChangeOutcome::Applied, None),
            refused("b10", ChangeRule::PointsOutside),
            refused("b9", ChangeRule::PointsOutside),
            refused(".git/hooks/x", ChangeRule::GitDirectory),
            refused(".github", ChangeRule::Github),
            refused(".github/workflows", ChangeRule::HeldBack),
            refused(".GitHub/Workflows/x.yml", ChangeRule::Github),
            change(
                "c",
                ChangeOutcome::Conflict,
                Some(ChangeRule::ChangedMeanwhile),
            ),
            change("d", ChangeOutcome::Discarded, Some(ChangeRule::WholeRun)),
        ];
        changes.extend((0..200).map(|number| refused(&format!("z{number}"), ChangeRule::Socket)));
        let held = HeldBack::of(Some(&ChangesDocument {
            changes,
            ..ChangesDocument::default()
        }));
        let paths: Vec<&str> = held.changes.iter().map(|one| one.path.as_str()).collect();
        let first = [
            ".GitHub/Workflows/x.yml",
            ".github",
            ".github/workflows",
            ".git/hooks/x",
            "b9",
            "b10",
            "c",
        ];
        assert_eq!(paths[..7], first);
        assert_eq!((held.changes.len(), held.count), (KEPT, 207));
        assert_eq!((held.workflows, held.discarded, held.applied), (1, 1, 1));
    }
}
