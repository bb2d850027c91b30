//! The reason why a time stamp is not valid.
use std::fmt;

use pipelock_receipts::findings::{Rule, visible};

use super::rules;

const MOST_SHOWN: usize = 160;

/// The reason why a token is not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The violated rule.
    pub rule: &'static Rule,
    /// The expected value.
    pub expected: String,
    /// The value that was found.
    pub found: String,
}

impl Problem {
    pub(super) fn new(rule: &'static Rule, expected: &str, found: impl Into<String>) -> Self {
        let found: String = found.into();
        Self {
            rule,
            expected: String::from(expected),
            found: found.chars().take(MOST_SHOWN).collect(),
        }
    }

    /// Returns a [`Problem`] for a packet without a token or without an attestation.
    pub fn absent(found: &str) -> Self {
        let expected = "timestamp.tsr over attestation.json";
        Self::new(&rules::NONE, expected, found)
    }

    /// Returns a [`Problem`] for a token that cannot be read.
    pub fn unreadable(found: impl Into<String>) -> Self {
        Self::new(&rules::FORM, "a file that can be read", found)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            expected,
            found,
        } = self;
        let found = visible(found);
        write!(
            formatter,
            "{} (expected: {expected}; found: {found})",
            rule.problem
        )
    }
}

impl std::error::Error for Problem {}
