//! What can be wrong with a policy document.
use thiserror::Error;

/// Why a document is not a policy of the built-in mediator.
///
/// Lines count from 1; 0 means that the place is not known. Key names are shown, values never.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// The text is not the one YAML document that is expected.
    #[error("policy line {line}: {what}")]
    Syntax {
        /// Where the reader gave up.
        line: u64,
        /// What it could not accept.
        what: &'static str,
    },
    /// A mapping names one key twice.
    #[error("policy line {line}: duplicate key `{key}`")]
    DuplicateKey {
        /// Line of the second one.
        line: u64,
        /// The key's name.
        key: String,
    },
    /// A key that no Pipelock knows.
    #[error("policy line {line}: unknown key `{key}`")]
    UnknownKey {
        /// Line of the key.
        line: u64,
        /// The key's full name.
        key: String,
    },
    /// A key that Pipelock knows and the built-in mediator does not carry out.
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
        /// The key's full name, with the place in a list where there is one.
        key: String,
        /// What it must be.
        reason: &'static str,
    },
    /// The finished document does not read back as what was written: a bug, never the caller's.
    #[error("the runtime policy does not read back as it was written")]
    NotFaithful,
}

impl PolicyError {
    /// Names a key for an error text: what does not look like a key is not repeated.
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
