//! Why a time stamp shows nothing.
use std::fmt;

use pipelock_receipts::findings::{Rule, visible};

use super::rules;

/// Characters of a token that are shown.
const MOST_SHOWN: usize = 160;

/// Why a token shows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The rule.
    pub rule: &'static Rule,
    /// What should be there.
    pub expected: String,
    /// What is there.
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

    /// The packet has no token, or the token nothing that it could be of.
    pub fn absent(found: &str) -> Self {
        let expected = "timestamp.tsr over attestation.json";
        Self::new(&rules::NONE, expected, found)
    }

    /// The token cannot be read.
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
            rule.says
        )
    }
}

impl std::error::Error for Problem {}
