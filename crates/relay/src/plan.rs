//! What the supervisor hands to the relay's process, and what the relay reports.
use std::net::SocketAddr;

use egress_policy::redact::Key;
use serde::{Deserialize, Serialize};

/// Everything the relay needs, handed over as JSON in an inherited memory file.
///
/// The process is `egress __relay PLAN_FD CONTROL_FD`: it starts as root in the host's network
/// namespace and in its own cgroup, maps the three slot arrays read-only, closes their descriptors,
/// drops to `uid`/`gid`, installs its seccomp filter, then sends [`Report::Ready`] on the control
/// socket (`SOCK_SEQPACKET`, one JSON text a message). When the supervisor shuts its end down for
/// writing, the relay stops accepting, closes what is open, reports the last flows and exits 0.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayPlan {
    /// User id of `pipelock-relay` for this run.
    pub uid: u32,
    /// Group id of `pipelock-relay` for this run.
    pub gid: u32,
    /// The sockets that were made inside the agent's network namespace.
    pub listeners: Listeners,
    /// Map descriptor of the slots by local port, connections that are IPv4 on the wire.
    pub slots_v4_fd: i32,
    /// The same for connections that are IPv6 on the wire.
    pub slots_v6_fd: i32,
    /// The same for connections to the explicit proxy port.
    pub slots_proxy_fd: i32,
    /// Where the mediator listens, on the host's loopback.
    pub mediator: SocketAddr,
    /// Ports that may be asked for: 80, 443 and what `--allow-port` added.
    pub allowed_ports: Vec<u16>,
    /// Whether AAAA questions are answered (`::1` could be bound).
    pub ipv6: bool,
    /// How plain HTTP is asked of the mediator.
    pub plain_http: PlainHttp,
    /// Length at which the mediator may cut the body of an answer without a word.
    pub answer_cut: Option<u64>,
    /// What the built-in mediator marks its own answers with. A real Pipelock marks none.
    pub mark: Option<String>,
    /// The key of the digests that stand for queries.
    pub redaction_key: Key,
}

/// How plain HTTP is asked of the mediator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlainHttp {
    /// The mediator fetches, follows redirects and scans: its limits of size and time count.
    #[default]
    Scan,
    /// Through a tunnel for each request: the mediator sees the name and the port alone.
    Tunnel,
}

impl PlainHttp {
    /// The word on the command line.
    pub fn label(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Tunnel => "tunnel",
        }
    }
}

/// Numbers of the inherited, already bound sockets (TCP ones are listening).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listeners {
    /// 127.0.0.1, redirected connections.
    pub transparent_v4: i32,
    /// `::1`, redirected connections.
    pub transparent_v6: Option<i32>,
    /// 127.0.0.1, the explicit proxy port.
    pub proxy_v4: i32,
    /// 127.0.0.1:53 UDP, the stub resolver; absent with `--dns deny`.
    pub dns_udp: Option<i32>,
    /// 127.0.0.1:53 TCP.
    pub dns_tcp: Option<i32>,
}

/// One message of the relay to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Report {
    /// The relay serves its sockets.
    Ready,
    /// The relay cannot start; it ends after this.
    Failed {
        /// One sentence: what, where, what to do.
        error: String,
    },
    /// One judged request or tunnel, sent when it has ended.
    Flow(FlowReport),
    /// A name that the stub resolver answered, or why it did not.
    Name(NameReport),
}

/// What became of one request (HTTP) or one tunnel (TLS, WebSocket).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowReport {
    /// Socket cookie of the agent's socket; 0 when no slot was found.
    pub cookie: u64,
    /// `bpf_ktime_get_ns` of the connect call, which tells apart two connects of one socket.
    pub connect_ns: u64,
    /// The address the agent asked for, `ip:port`; absent on the explicit proxy port.
    pub orig_dst: Option<SocketAddr>,
    /// The name it stands for, as judged.
    pub host: Option<String>,
    /// The port asked for.
    pub port: Option<u16>,
    /// `http`, `tls`, `connect`, `websocket`, `dns` or the label of what was refused (`ssh`, `h2c`, `raw` …).
    pub protocol: String,
    /// How it was asked of the mediator: `connect`, `forward`, `websocket`, `fetch`; absent when it was not.
    pub transport: Option<String>,
    /// `METHOD URL` of what was asked for, or `CONNECT host:port`; redacted by [`egress_policy::redact::target`].
    pub target: Option<String>,
    /// Its length before that. The mediator and the destination got all of it.
    pub target_bytes: u64,
    /// Bytes of the request's head as it was sent to the mediator: request line and fields; 0 of a tunnel, and of what
    /// was not sent.
    pub head_bytes: u64,
    /// `forwarded`, `refused` (by the relay), `blocked` (by the mediator), `answered` (perhaps by the mediator, with a
    /// refusal), `failed` or `unfinished` (cut).
    pub verdict: String,
    /// Stable reason word: `name_mismatch`, `port_not_allowed`, `not_tls_or_http` …; empty when forwarded.
    pub reason: String,
    /// With `answered`, the refusal's own words, which an origin may have written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
    /// HTTP status that the mediator answered with, when it did.
    pub status: Option<u16>,
    /// Bytes from the agent that went on to the mediator: the body of a request, everything in a tunnel. Counted
    /// where they pass, so they are true however the flow ended.
    pub bytes_up: u64,
    /// Bytes to the agent, the same.
    pub bytes_down: u64,
    /// Wall time from accept (or request head) to end, microseconds.
    pub duration_us: u64,
}

/// One name that the agent asked the stub resolver for, reported once a name and answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameReport {
    /// The name asked for, lower case, without the trailing dot.
    pub name: String,
    /// Its synthetic address, when one was given.
    pub address: Option<std::net::IpAddr>,
    /// Empty, or why not: `exhausted`, `malformed`.
    pub reason: String,
}
