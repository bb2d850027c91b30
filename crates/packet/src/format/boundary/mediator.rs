//! The mediator in `boundary.json`.
use serde::{Deserialize, Serialize, Serializer};

use super::super::value::{Name, Sha256};
use super::words::{Binding, BuiltinBinding, PlainHttp};

/// The mediator. It judged the requests and signed the receipts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Mediator", deny_unknown_fields)
)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MediatorDocument {
    /// The mediator in `egress`.
    Builtin {
        /// `bound`: the receipts sign the posture capsule.
        #[serde(default)]
        posture: BuiltinBinding,
    },
    /// A Pipelock.
    Pipelock {
        /// Way in which the relay sends plain HTTP to Pipelock.
        #[serde(default)]
        plain_http: PlainHttp,
        /// Properties of this Pipelock and of its run.
        #[serde(default)]
        pipelock: Box<Pipelock>,
    },
    /// A kind of mediator that this version does not have.
    #[default]
    // schemars cannot combine its `skip` with a serializer.
    #[cfg_attr(feature = "schema", serde(other), schemars(skip))]
    #[cfg_attr(not(feature = "schema"), serde(other, serialize_with = "unknown_kind"))]
    Unknown,
}

/// Serializes a kind that this version does not have. The serialized name is empty, so that `deviations` reports every
/// unknown kind, even a kind with the name of this variant.
#[cfg_attr(
    feature = "schema",
    expect(dead_code, reason = "schemas describe only known kinds")
)]
fn unknown_kind<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map([("kind", Name::default())])
}

impl MediatorDocument {
    /// Whether the mediator in `egress` judged and signed.
    pub fn is_builtin(&self) -> bool {
        matches!(self, Self::Builtin { .. })
    }

    /// Whether plain HTTP went through tunnels.
    pub fn tunnels_plain_http(&self) -> bool {
        matches!(self, Self::Pipelock { plain_http, .. } if *plain_http == PlainHttp::Tunnel)
    }

    /// Properties of the Pipelock of a run.
    pub fn pipelock(&self) -> Option<&Pipelock> {
        match self {
            Self::Pipelock { pipelock, .. } => Some(pipelock),
            Self::Builtin { .. } | Self::Unknown => None,
        }
    }
}

documents! {
    /// Properties of the Pipelock of a run.
    Pipelock {
        /// Path of the Pipelock that the caller named or that was found on `PATH`.
        given: Name,
        /// SHA-256 of the copy that was executed.
        binary_sha256: Option<Sha256>,
        /// Version that this Pipelock prints.
        version: Option<Name>,
        /// SHA-256 of the root certificates that Pipelock received.
        roots_sha256: Option<Sha256>,
        /// `bound` if the receipts sign the posture capsule, `not_known` if this Pipelock is too old to sign it.
        posture: Option<Binding>,
        /// Limits of the policy that the run raised, as `KEY: VALUE`.
        raised: Vec<String>,
        /// Whether Pipelock redacts targets in its evidence.
        redact: bool,
        /// Keys of the policy that were left out, because this Pipelock does not support them.
        left_out: Vec<String>,
        /// Notices about keys of the caller's policy that weaken or extend the enforcement.
        notices: Vec<PolicyNotice>,
        /// Two numbers: the allowed actions in the relay's rows, and the allowed actions with a
        /// receipt.
        allowed: Vec<u64>,
        /// Whether the supervisor killed Pipelock because Pipelock did not end in time.
        killed: bool,
        /// Irregularities at the end of the run that did not lose evidence.
        notes: Vec<String>,
    }

    /// The effect of a key of the caller's policy.
    PolicyNotice {
        /// Name of the key.
        key: Name,
        /// Effect of the key, as a sentence.
        effect: Name,
    }
}
