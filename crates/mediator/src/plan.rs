//! What the supervisor hands to the built-in mediator's process.
use std::path::PathBuf;

use egress_policy::redact::Key;
pub use pipelock_receipts::record::Posture as PostureBinding;
use serde::{Deserialize, Serialize};

/// Everything the built-in mediator needs, handed over as JSON in an inherited memory file.
///
/// The process is `egress __mediator PLAN_FD CONTROL_FD`: it starts as root in the host's network
/// namespace, reads the plan, drops to `uid`/`gid`, opens its session and then reports one
/// [`Status`] on the control socket (`SOCK_SEQPACKET`, one JSON text a message).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MediatorPlan {
    /// User id of `pipelock-host` for this run.
    pub uid: u32,
    /// Group id of `pipelock-host` for this run.
    pub gid: u32,
    /// Number of the inherited, already listening TCP socket on host loopback.
    pub listener_fd: i32,
    /// Runtime policy, the exact bytes of the packet's `policy.yaml`.
    pub policy_yaml: String,
    /// Seed of the receipt signing key, 64 hex digits.
    pub signing_seed_hex: String,
    /// Directory for `evidence-<session>-0.jsonl`; exists, empty, owned by `uid`.
    pub evidence_dir: PathBuf,
    /// Recorder session: `proxy.run.` and 32 hex digits.
    pub recorder_session: String,
    /// Run nonce, 32 hex digits, carried by every receipt.
    pub run_nonce: String,
    /// Actor of the receipts.
    pub agent_identity: String,
    /// Seconds between heartbeats.
    pub heartbeat_seconds: u64,
    /// What the mediator marks its own answers with, 32 hex digits; only the relay knows it, too.
    pub mark: String,
    /// The key of the digests that stand for queries.
    pub redaction_key: Key,
    /// Posture capsule to bind into `session_open`, when there is one.
    pub posture: Option<PostureBinding>,
}

/// What the mediator says on its control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case", deny_unknown_fields)]
pub enum Status {
    /// `session_open` is durable and the listener is served.
    Ready,
    /// It cannot start or cannot go on (a full disk, say); the process ends after this.
    Failed {
        /// One sentence: what, where, what to do.
        error: String,
    },
}
