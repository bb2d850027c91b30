//! Writes action receipts of version 1: record, signature, receipt hash, and the session records open, heartbeat, and
//! close (evidence protocol, sections 2.1 to 2.5).
//!
//! Claims: decisions-signed
use ed25519_dalek::{Signer, SigningKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::canonical::ObjectWriter;

/// `chain_prev_hash` of the first receipt in evidence without sessions, and `prev_hash` of the first entry.
pub const GENESIS: &str = "genesis";
/// Prefix of every receipt signature.
pub const SIGNATURE_PREFIX: &str = "ed25519:";
/// Prefix of the hash that binds the parameters of a session to its first receipt.
pub const SESSION_GENESIS_PREFIX: &str = "g1:";
/// Domain label of the session genesis hash.
const SESSION_GENESIS_LABEL: &str = "pipelock.receipt.session_open.v1";

/// The kind of an action. The built-in mediator does not need all kinds of the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionType {
    /// Reads from the destination: a tunnel, GET, HEAD, OPTIONS, TRACE.
    Read,
    /// Unknown: `WebSockets`, session records, and other methods.
    Unclassified,
    /// Changes something at the destination: POST, PUT, PATCH, DELETE, QUERY.
    Write,
}

impl ActionType {
    /// Returns the kind that Pipelock assigns to an HTTP method. CONNECT counts as reading.
    pub fn for_method(method: &str) -> Self {
        match method {
            "CONNECT" | "GET" | "HEAD" | "OPTIONS" | "TRACE" => Self::Read,
            "DELETE" | "PATCH" | "POST" | "PUT" | "QUERY" => Self::Write,
            _ => Self::Unclassified,
        }
    }

    /// Returns the word of the wire format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Unclassified => "unclassified",
            Self::Write => "write",
        }
    }

    /// Returns the wire word for the kind of change that an action of this kind makes at the destination.
    pub fn side_effect_class(self) -> &'static str {
        match self {
            Self::Read => "external_read",
            Self::Unclassified => "none",
            Self::Write => "external_write",
        }
    }

    /// Returns the wire word that states whether an action of this kind can be undone.
    pub fn reversibility(self) -> &'static str {
        match self {
            Self::Read => "full",
            Self::Unclassified => "unknown",
            Self::Write => "compensatable",
        }
    }
}

/// The verdict of one receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptVerdict {
    /// The action is allowed.
    Allow,
    /// The action is denied.
    Block,
}

impl ReceiptVerdict {
    /// Returns the word of the wire format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
        }
    }
}

/// The phase of an action that a receipt records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Recorded durably before the mediator connects to the destination.
    Intent,
    /// Written when the action has ended. The outcome names the same action as its intent.
    Outcome,
}

impl Phase {
    /// Returns the word of the wire format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Outcome => "outcome",
        }
    }
}

/// The way in which an action reached the mediator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A CONNECT tunnel.
    Connect,
    /// `GET /fetch?url=`.
    Fetch,
    /// An HTTP request in absolute form.
    Forward,
    /// The session records open, heartbeat, and close.
    ReceiptSession,
    /// `GET /ws?url=`.
    WebSocket,
}

impl Transport {
    /// Returns the word of the wire format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Fetch => "fetch",
            Self::Forward => "forward",
            Self::ReceiptSession => "receipt_session",
            Self::WebSocket => "websocket",
        }
    }
}

/// One decision, as the mediator passes it to the recorder. Empty texts are left out of the record.
#[derive(Debug, Clone, Copy)]
pub struct Action<'a> {
    /// `UUIDv7` that the intent and the outcome of one action share.
    pub action_id: &'a str,
    /// Kind of the action.
    pub action_type: ActionType,
    /// Whether the action is allowed.
    pub verdict: ReceiptVerdict,
    /// Intent or outcome. A denial before any intent has no phase.
    pub phase: Option<Phase>,
    /// Way in which the action reached the mediator.
    pub transport: Transport,
    /// URL of the destination, or `https://name:port/` for a tunnel. The target is never empty.
    pub target: &'a str,
    /// HTTP method, `CONNECT`, or `WS`.
    pub method: &'a str,
    /// The rule group that decided (`allowlist`, `ssrf`, `scheme`, …), or `outcome` for an outcome.
    pub layer: &'a str,
    /// The reason in words, or `status=… bytes=… reason=…` for an outcome.
    pub pattern: &'a str,
    /// Number of the request in the mediator's own log.
    pub request_id: &'a str,
}

/// The hashes of a posture capsule that `session_open` signs. The texts are empty if no capsule is bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posture {
    /// SHA-256 of the canonical JSON of the whole capsule, lowercase hex.
    pub capsule_sha256: String,
    /// Public key that signed the capsule, lowercase hex.
    pub signer_key_id: String,
    /// The capsule's signature, lowercase hex.
    pub containment_nonce: String,
    /// User id of the command, decimal.
    pub contained_uid: String,
}

/// The members of `session_open`.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "open_nonce is the wire name")]
pub(crate) struct Open<'a> {
    pub(crate) run_nonce: &'a str,
    pub(crate) open_nonce: &'a str,
    pub(crate) recorder_session: &'a str,
    pub(crate) policy_hash: &'a str,
    pub(crate) signer_key_epoch: &'a str,
    pub(crate) heartbeat_seconds: u64,
    pub(crate) posture: &'a Posture,
}

impl Open<'_> {
    /// Returns the hash that is `chain_prev_hash` of the first receipt.
    pub(crate) fn genesis_hash(&self) -> String {
        session_genesis(&[
            self.run_nonce.as_bytes(),
            self.open_nonce.as_bytes(),
            self.recorder_session.as_bytes(),
            self.policy_hash.as_bytes(),
            self.signer_key_epoch.as_bytes(),
            &self.heartbeat_seconds.to_be_bytes(),
            b"",
            b"",
            self.posture.capsule_sha256.as_bytes(),
            self.posture.containment_nonce.as_bytes(),
            self.posture.contained_uid.as_bytes(),
        ])
    }

    /// Returns the value of `session_control`.
    pub(crate) fn control(&self, genesis_hash: &str) -> String {
        control("session_open", "open", |open| {
            open.string("run_nonce", self.run_nonce)
                .string("open_nonce", self.open_nonce)
                .string("recorder_session", self.recorder_session)
                .string("policy_hash", self.policy_hash)
                .string("signer_key_epoch", self.signer_key_epoch)
                .number("heartbeat_seconds", self.heartbeat_seconds)
                .number("chain_open_seq", 0)
                .string("genesis_hash", genesis_hash)
                .optional("posture_capsule_sha256", &self.posture.capsule_sha256)
                .optional("posture_signer_key_id", &self.posture.signer_key_id)
                .optional("containment_nonce", &self.posture.containment_nonce)
                .optional("contained_uid", &self.posture.contained_uid);
        })
    }
}

/// Returns the value `{"kind":KIND,MEMBER:{…}}` of `session_control`.
pub(crate) fn control(
    kind: &str,
    member: &str,
    fill: impl FnOnce(&mut ObjectWriter<'_>),
) -> String {
    let mut out = String::with_capacity(512);
    let mut outer = ObjectWriter::new(&mut out);
    outer.string("kind", kind);
    let mut inner = ObjectWriter::new(outer.name(member));
    fill(&mut inner);
    inner.end();
    outer.end();
    out
}

/// Returns `g1:` and the SHA-256 of the label and the eleven bound fields. Each field follows its length in eight
/// big-endian bytes.
pub(crate) fn session_genesis(fields: &[&[u8]; 11]) -> String {
    let mut hasher = Sha256::new();
    for field in std::iter::once(&SESSION_GENESIS_LABEL.as_bytes()).chain(fields) {
        let length = u64::try_from(field.len()).unwrap_or(u64::MAX);
        hasher.update(length.to_be_bytes());
        hasher.update(field);
    }
    format!("{SESSION_GENESIS_PREFIX}{}", hex::encode(hasher.finalize()))
}

/// The content of one record: the action and its place in the chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) action: Action<'a>,
    pub(crate) actor: &'a str,
    pub(crate) timestamp: &'a str,
    pub(crate) policy_hash: &'a str,
    pub(crate) run_nonce: &'a str,
    pub(crate) chain_prev_hash: &'a str,
    pub(crate) chain_seq: u64,
    pub(crate) session_control: Option<&'a str>,
}

impl Record<'_> {
    /// Returns the canonical text. The evidence file contains the same text.
    pub(crate) fn canonical(&self) -> String {
        let action = &self.action;
        let mut out = String::with_capacity(1024);
        let mut object = ObjectWriter::new(&mut out);
        object
            .number("version", 1)
            .string("action_id", action.action_id)
            .string("action_type", action.action_type.as_str())
            .string("timestamp", self.timestamp)
            .string("principal", "local")
            .string("actor", self.actor)
            .raw("delegation_chain", "null")
            .string("target", action.target)
            .string("side_effect_class", action.action_type.side_effect_class())
            .string("reversibility", action.action_type.reversibility())
            .string("policy_hash", self.policy_hash)
            .string("verdict", action.verdict.as_str())
            .optional("decision_phase", action.phase.map_or("", Phase::as_str))
            .string("transport", action.transport.as_str())
            .optional("method", action.method)
            .optional("layer", action.layer)
            .optional("pattern", action.pattern)
            .optional("request_id", action.request_id)
            .string("chain_prev_hash", self.chain_prev_hash)
            .number("chain_seq", self.chain_seq)
            .string("run_nonce", self.run_nonce);
        if let Some(control) = self.session_control {
            object.raw("session_control", control);
        }
        object.end();
        out
    }

    /// Signs the SHA-256 of the record, and returns the text of the receipt and its hash. The text is in the compact
    /// form that the receipt hash covers.
    pub(crate) fn sign(&self, key: &SigningKey, signer_key: &str) -> (String, String) {
        let record = self.canonical();
        let signature = key.sign(&Sha256::digest(record.as_bytes()));
        let mut receipt = String::with_capacity(record.len().saturating_add(320));
        ObjectWriter::new(&mut receipt)
            .number("version", 1)
            .raw("action_record", &record)
            .string(
                "signature",
                &format!("{SIGNATURE_PREFIX}{}", hex::encode(signature.to_bytes())),
            )
            .string("signer_key", signer_key)
            .end();
        let hash = hex::encode(Sha256::digest(receipt.as_bytes()));
        (receipt, hash)
    }
}
