//! Who judged and signed.
use serde::{Deserialize, Serialize};

use super::super::value::{Name, Sha256};
use super::words::{Binding, BuiltinBinding, PlainHttp};

/// Who judged and signed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields)
)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Mediator {
    /// The mediator in `egress`.
    Builtin {
        /// That its receipts sign the posture capsule.
        #[serde(default)]
        posture: BuiltinBinding,
    },
    /// A Pipelock.
    Pipelock {
        /// How it is asked for plain HTTP.
        #[serde(default)]
        plain_http: PlainHttp,
        /// What is known of it.
        #[serde(default)]
        pipelock: Box<Pipelock>,
    },
    /// One that this version does not know.
    #[default]
    #[serde(other, skip_serializing)]
    Unknown,
}

impl Mediator {
    /// Whether the mediator in `egress` judged and signed.
    pub fn is_builtin(&self) -> bool {
        matches!(self, Self::Builtin { .. })
    }

    /// Whether plain HTTP went through tunnels.
    pub fn tunnels_plain_http(&self) -> bool {
        matches!(self, Self::Pipelock { plain_http, .. } if *plain_http == PlainHttp::Tunnel)
    }

    /// What is known of a Pipelock.
    pub fn pipelock(&self) -> Option<&Pipelock> {
        match self {
            Self::Pipelock { pipelock, .. } => Some(pipelock),
            Self::Builtin { .. } | Self::Unknown => None,
        }
    }
}

documents! {
    /// What is known of a Pipelock.
    Pipelock {
        /// The program as it was named or found.
        given: Name,
        /// SHA-256 of the copy that was executed.
        binary_sha256: Option<Sha256>,
        /// Its version, as it prints it.
        version: Option<Name>,
        /// SHA-256 of the root certificates that it was given.
        roots_sha256: Option<Sha256>,
        /// `bound` if its receipts sign the posture capsule, `not_known` if it is too old for that.
        posture: Option<Binding>,
        /// Limits that were raised.
        raised: Vec<String>,
        /// Whether it redacts targets in its evidence.
        redact: bool,
        /// Keys of the policy that it does not know.
        left_out: Vec<String>,
        /// What the caller's own keys do.
        notices: Vec<PolicyNotice>,
        /// Allowed actions that the relay saw, and those that have their receipt.
        allowed: Vec<u64>,
        /// Whether it had to be killed.
        killed: bool,
        /// What went differently without a loss.
        notes: Vec<String>,
    }

    /// What a key of the caller's policy does.
    PolicyNotice {
        /// The key.
        key: Name,
        /// What it does.
        effect: Name,
    }
}
