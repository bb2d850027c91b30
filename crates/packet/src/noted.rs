//! The reasons for a lower grade that a check of the flow log found.
use std::collections::BTreeSet;

/// Maximum number of reasons.
const KEPT: usize = 10;

/// Different reasons, in the order in which they were found, up to a limit.
#[derive(Debug, Default)]
pub(super) struct Noted {
    reasons: Vec<String>,
    /// Conditions of which each has at most one reason, and that a row already broke.
    broken: BTreeSet<&'static str>,
}

impl Noted {
    /// Adds `reason`, unless it was already added or the limit is reached.
    pub(super) fn add(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        if self.reasons.len() < KEPT && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    /// Adds the reason of the first row that broke `condition`, so that many such rows do not displace other reasons.
    pub(super) fn add_first(&mut self, condition: &'static str, reason: impl FnOnce() -> String) {
        if self.broken.insert(condition) {
            self.add(reason());
        }
    }

    pub(super) fn into_reasons(self) -> Vec<String> {
        self.reasons
    }
}
