//! Errors in a policy document.
use thiserror::Error;

/// Why the built-in mediator cannot use a document as its policy.
///
/// Lines count from 1. Line 0 stands for an unknown line. Errors show key names and never values.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// The text is not exactly one valid YAML document.
    #[error("policy line {line}: {what}")]
    Syntax {
        /// The line at which the parser stopped.
        line: u64,
        /// The part of the text that the parser rejected.
        what: &'static str,
    },
    /// A mapping contains the same key twice.
    #[error("policy line {line}: duplicate key `{key}`")]
    DuplicateKey {
        /// Line of the second occurrence.
        line: u64,
        /// The key's name.
        key: String,
    },
    /// No Pipelock has this key.
    #[error("policy line {line}: unknown key `{key}`")]
    UnknownKey {
        /// Line of the key.
        line: u64,
        /// The key's full name.
        key: String,
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
        /// A text that states the form that the value must have.
        reason: &'static str,
    },
    /// The written document does not parse to the same content. This is a bug in egress.
    #[error(
        "the runtime policy changes when it is written and read again; this is a bug in egress, please report it"
    )]
    NotFaithful,
}

impl PolicyError {
    /// Returns the key's name for an error message. A text that does not look like a key is left
    /// out.
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
