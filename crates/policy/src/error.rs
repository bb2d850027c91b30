//! Errors in a policy document.
use thiserror::Error;

/// Why the built-in mediator cannot use a document as its policy.
///
/// Lines count from 1; line 0 means that the place is unknown. An error shows a value only if its key
/// belongs to the policy language, and then without user information and query.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// The text is not exactly one valid YAML document.
    #[error("policy line {line}: {what}")]
    Syntax {
        /// The line at which the parser stopped.
        line: u64,
        /// What the parser rejected.
        what: String,
    },
    /// A mapping contains the same key twice.
    #[error("policy line {line}: duplicate key `{key}`")]
    DuplicateKey {
        /// Line of the second occurrence.
        line: u64,
        /// The key's name.
        key: String,
    },
    /// The key is not one of the keys of Pipelock that this crate lists.
    #[error("policy line {line}: unknown key `{key}`{}", suggestion(nearest.as_deref(), known))]
    UnknownKey {
        /// Line of the key.
        line: u64,
        /// The key's full name.
        key: String,
        /// The full name of the key that was probably meant.
        nearest: Option<String>,
        /// The full names of the keys that the built-in mediator implements at this place.
        known: Vec<String>,
    },
    /// Pipelock has this key, but the built-in mediator does not implement it.
    #[error(
        "policy line {line}: `{key}` is not implemented by the built-in mediator; use --mediator pipelock"
    )]
    NotImplemented {
        /// Line of the key.
        line: u64,
        /// The key's full name.
        key: String,
    },
    /// A key whose value has the wrong type or form.
    #[error("policy line {line}: `{key}` {reason}")]
    Invalid {
        /// Line of the value.
        line: u64,
        /// The key's full name, with the index for an item of a list.
        key: String,
        /// What the value must be, and what it is.
        reason: String,
    },
    /// The written document does not parse to the same content. This is a bug in egress.
    #[error(
        "the runtime policy changes when it is written and read again; this is a bug in egress, please report it"
    )]
    NotFaithful,
}

/// The text that follows an unknown key.
fn suggestion(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => format!("; the keys here are {}", known.join(", ")),
    }
}

impl PolicyError {
    /// An error about a document that is not valid YAML for a policy.
    pub(super) fn syntax(line: u64, what: impl Into<String>) -> Self {
        Self::Syntax {
            line,
            what: what.into(),
        }
    }

    /// The key's name for an error message. A text that does not look like a key is not repeated.
    pub(super) fn shown(key: &str) -> String {
        let plain = !key.is_empty()
            && key.len() <= 96
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-.[]<".contains(&byte));
        if plain {
            key.to_owned()
        } else {
            String::from("(not shown)")
        }
    }
}
