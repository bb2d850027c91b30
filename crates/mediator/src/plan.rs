//! The plan that the process of the built-in mediator receives from the supervisor.
use std::path::PathBuf;

use egress_policy::redact::Key;
pub use pipelock_receipts::record::Posture as PostureBinding;
use serde::{Deserialize, Serialize};

/// The plan of the built-in mediator, as JSON in an inherited memory file.
///
/// The process is `egress __mediator PLAN_FD CONTROL_FD`. The process starts as root in the host's network namespace,
/// reads the plan, drops to `uid`/`gid`, and opens its session. After that, the process sends [`Status::Ready`] on the
/// control socket (`SOCK_SEQPACKET`, one JSON text per message). If the process cannot start or continue, it sends
/// [`Status::Failed`] and exits.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MediatorPlan {
    /// User id of the mediator for this run, `pipelock-host` in the packet.
    pub uid: u32,
    /// Group id of the mediator for this run.
    pub gid: u32,
    /// Descriptor of the inherited TCP socket, which listens on the host's loopback.
    pub listener_fd: i32,
    /// Runtime policy: the exact text of the packet's `policy.yaml`.
    pub policy_yaml: String,
    /// Seed of the receipt signing key, 64 hex digits.
    pub signing_seed_hex: String,
    /// Directory for `evidence-<session>-0.jsonl`. The directory exists, is empty, and belongs to
    /// `uid`.
    pub evidence_dir: PathBuf,
    /// Recorder session: `proxy.run.` and 32 hex digits.
    pub recorder_session: String,
    /// Run nonce, 32 hex digits, which every receipt contains.
    pub run_nonce: String,
    /// Actor in the receipts.
    pub agent_identity: String,
    /// Seconds between heartbeats.
    pub heartbeat_seconds: u64,
    /// Mark of the mediator's own answers, 32 hex digits. The supervisor passes the mark only to the mediator and the
    /// relay.
    pub mark: String,
    /// Key of the digests that replace queries in receipts.
    pub redaction_key: Key,
    /// Posture capsule that `session_open` binds, if there is one.
    pub posture: Option<PostureBinding>,
}

/// Message of the mediator on its control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case", deny_unknown_fields)]
pub enum Status {
    /// `session_open` is durable, and the mediator starts to serve the listener.
    Ready,
    /// The mediator cannot start or continue, for example because the disk is full. The process exits after this
    /// message.
    Failed {
        /// The error as one sentence.
        error: String,
    },
}
