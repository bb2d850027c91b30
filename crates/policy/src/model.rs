//! What a policy says, after every key has been read and checked.
use std::time::Duration;

use super::allow::AllowList;
use super::ssrf::SsrfGuard;

/// A policy that the built-in mediator enforces. Always strict: what is not allowed is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Hosts that may be reached.
    pub allow: AllowList,
    /// Which of their addresses may be dialled.
    pub guard: SsrfGuard,
    /// Limits of absolute-form requests, and the listener's address.
    pub fetch: FetchKeys,
    /// CONNECT and absolute-form requests.
    pub forward: ForwardKeys,
    /// `/ws`.
    pub websocket: WebSocketKeys,
    /// The evidence.
    pub recorder: RecorderKeys,
    /// Actor of the receipts.
    pub agent_identity: Option<String>,
    /// Whether a client's own identity header is ignored. The built-in ignores it always.
    pub bind_agent_identity: bool,
}

/// `fetch_proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchKeys {
    /// `listen`; the listener itself is handed over, so this only names it.
    pub listen: Option<String>,
    /// `timeout_seconds`: until the head of an answer.
    pub timeout: Duration,
    /// `max_response_mb`: no limit when absent, as bodies are streamed and never held.
    pub max_response_bytes: Option<u64>,
}

impl Default for FetchKeys {
    fn default() -> Self {
        Self {
            listen: None,
            timeout: Duration::from_secs(30),
            max_response_bytes: None,
        }
    }
}

/// `forward_proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardKeys {
    /// `enabled`.
    pub enabled: bool,
    /// `max_tunnel_seconds`: life of a tunnel, however busy; no limit when absent.
    pub max_tunnel: Option<Duration>,
    /// `idle_timeout_seconds`: a tunnel or body without a byte for so long ends.
    pub idle_timeout: Duration,
    /// `sni_verification`: a tunnel carries TLS for the host that was asked for, or nothing.
    pub sni_verification: bool,
}

impl Default for ForwardKeys {
    fn default() -> Self {
        Self {
            enabled: false,
            max_tunnel: None,
            idle_timeout: Duration::from_mins(2),
            sni_verification: true,
        }
    }
}

/// `websocket_proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketKeys {
    /// `enabled`.
    pub enabled: bool,
    /// `max_connection_seconds`.
    pub max_connection: Duration,
    /// `idle_timeout_seconds`.
    pub idle_timeout: Duration,
    /// `max_concurrent_connections`.
    pub max_concurrent: usize,
}

impl Default for WebSocketKeys {
    fn default() -> Self {
        Self {
            enabled: false,
            max_connection: Duration::from_hours(1),
            idle_timeout: Duration::from_mins(5),
            max_concurrent: 128,
        }
    }
}

/// `flight_recorder`. Receipts are required and signed, whatever a document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecorderKeys {
    /// `dir`.
    pub dir: Option<String>,
    /// `signing_key_path`.
    pub signing_key_path: Option<String>,
    /// `checkpoint_interval`: entries between two signed checkpoints.
    pub checkpoint_interval: u64,
    /// `max_entries_per_file`: a new file after so many lines; one file when absent.
    pub max_entries_per_file: Option<u64>,
    /// `completeness.heartbeat_interval`.
    pub heartbeat: Duration,
}

impl Default for RecorderKeys {
    fn default() -> Self {
        Self {
            dir: None,
            signing_key_path: None,
            checkpoint_interval: 1000,
            max_entries_per_file: None,
            heartbeat: Duration::from_mins(1),
        }
    }
}
