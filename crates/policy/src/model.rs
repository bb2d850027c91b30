//! A policy after every key has been read and checked.
use std::time::Duration;

use super::allow::AllowList;
use super::ssrf::SsrfGuard;

/// A policy that the built-in mediator enforces. The policy is always strict: every destination
/// that is not allowed is denied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Destinations that may be reached.
    pub allow: AllowList,
    /// Which resolved addresses of these destinations may be dialed.
    pub guard: SsrfGuard,
    /// Limits for absolute-form requests, and the listener's address.
    pub fetch: FetchKeys,
    /// Settings for CONNECT and absolute-form requests.
    pub forward: ForwardKeys,
    /// Settings for WebSocket connections (`/ws`).
    pub websocket: WebSocketKeys,
    /// Settings for the evidence files.
    pub recorder: RecorderKeys,
    /// The actor written into receipts.
    pub agent_identity: Option<String>,
    /// Whether a client's own identity header is ignored. The built-in mediator always ignores that
    /// header.
    pub bind_agent_identity: bool,
}

/// Keys of the `fetch_proxy` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchKeys {
    /// `listen`: the address of the listener. The supervisor opens the listener and passes it on,
    /// so the mediator does not open this address itself.
    pub listen: Option<String>,
    /// `timeout_seconds`: how long to wait for the head of a response.
    pub timeout: Duration,
    /// `max_response_mb`, converted to bytes. There is no limit when the key is absent, because
    /// bodies are streamed and not buffered.
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

/// Keys of the `forward_proxy` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardKeys {
    /// `enabled`: whether the section is switched on.
    pub enabled: bool,
    /// `max_tunnel_seconds`: the longest life of a tunnel, even a busy one. There is no limit when
    /// the key is absent.
    pub max_tunnel: Option<Duration>,
    /// `idle_timeout_seconds`: a tunnel or body is closed if no byte passes for this long.
    pub idle_timeout: Duration,
    /// `sni_verification`: a tunnel may carry only TLS for the requested host.
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

/// Keys of the `websocket_proxy` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketKeys {
    /// `enabled`: whether the section is switched on.
    pub enabled: bool,
    /// `max_connection_seconds`: the longest life of a connection.
    pub max_connection: Duration,
    /// `idle_timeout_seconds`: a connection is closed if no byte passes for this long.
    pub idle_timeout: Duration,
    /// `max_concurrent_connections`: the maximum number of connections at a time.
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

/// Keys of the `flight_recorder` section. Receipts are always required and signed, whatever the document contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecorderKeys {
    /// `dir`: where the evidence is written.
    pub dir: Option<String>,
    /// `signing_key_path`: the file of the signing key.
    pub signing_key_path: Option<String>,
    /// `checkpoint_interval`: the number of entries between two signed checkpoints.
    pub checkpoint_interval: u64,
    /// `max_entries_per_file`: the number of lines after which a new file is started. If the key is
    /// absent, everything goes into one file.
    pub max_entries_per_file: Option<u64>,
    /// `completeness.heartbeat_interval`: the time between two heartbeats.
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
