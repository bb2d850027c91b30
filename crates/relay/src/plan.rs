//! The plan that the relay process receives from the supervisor, and the reports that it sends.
use std::net::SocketAddr;

use egress_policy::patterns::Patterns;
use egress_policy::redact::Key;
use serde::{Deserialize, Serialize};

use super::limits::Limits;

/// The plan of the relay process, as JSON in an inherited memory file.
///
/// The process is `egress __relay PLAN_FD CONTROL_FD`. The process starts as root in the host's network namespace and
/// in its own cgroup. The process maps the three slot arrays read-only, closes the descriptors of the arrays, drops to
/// `uid`/`gid`, and installs its seccomp filter. After that, the process sends [`Report::Ready`] on the control socket
/// (`SOCK_SEQPACKET`, one JSON text per message). When the supervisor shuts down its end for writing, the relay stops
/// accepting, closes open connections, reports the last flows, and exits with 0.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayPlan {
    /// User id of the relay for this run, `pipelock-relay` in the packet.
    pub uid: u32,
    /// Group id of the relay for this run.
    pub gid: u32,
    /// Sockets that the boundary's init process opened in the boundary's network namespace.
    pub listeners: Listeners,
    /// Descriptor of the array of slots by local port, for connections that are IPv4 on the wire.
    pub slots_v4_fd: i32,
    /// Descriptor of the array for connections that are IPv6 on the wire.
    pub slots_v6_fd: i32,
    /// Descriptor of the array for connections to the explicit proxy port.
    pub slots_proxy_fd: i32,
    /// Configuration of the service.
    pub config: Config,
}

/// Configuration of the relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the mediator on the host's loopback.
    pub mediator: SocketAddr,
    /// Allowed ports: 80, 443, and the ports of `--allow-port`.
    pub allowed_ports: Vec<u16>,
    /// Whether AAAA queries get an address, which requires a listener on `::1`.
    pub ipv6: bool,
    /// How plain HTTP is sent to the mediator.
    pub plain_http: PlainHttp,
    /// Length at which the mediator may truncate the body of an answer without notice.
    pub answer_cut: Option<u64>,
    /// Mark of the built-in mediator on its own answers. `None` with a Pipelock, which does not mark its answers.
    pub mark: Option<String>,
    /// Key of the digests that replace queries in the flow log.
    pub redaction_key: Key,
    /// Patterns of the policy. Paths in the flow log do not contain a text that one of them matches.
    pub redaction_patterns: Patterns,
    /// Counts, sizes, and timeouts. The relay sets these limits itself.
    #[serde(skip)]
    pub limits: Limits,
}

/// How plain HTTP is sent to the mediator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlainHttp {
    /// The mediator receives each request and answer in plain text, and its size and time limits apply. A Pipelock
    /// scans both and follows redirects.
    #[default]
    Scan,
    /// Each request goes through its own tunnel. The mediator judges only the host and the port.
    Tunnel,
}

impl PlainHttp {
    /// Returns the value of `--plain-http`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Tunnel => "tunnel",
        }
    }
}

/// Descriptors of the inherited sockets. All are bound, and the TCP sockets are listening.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listeners {
    /// Listener on 127.0.0.1 for redirected connections.
    pub transparent_v4: i32,
    /// Listener on `::1` for redirected connections.
    pub transparent_v6: Option<i32>,
    /// Listener on 127.0.0.1 at the explicit proxy port.
    pub proxy_v4: i32,
    /// UDP socket of the stub resolver at 127.0.0.1:53. Absent with `--dns deny`.
    pub dns_udp: Option<i32>,
    /// TCP listener of the stub resolver at 127.0.0.1:53. Absent with `--dns deny`.
    pub dns_tcp: Option<i32>,
}

/// One message of the relay to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Report {
    /// The relay serves its sockets.
    Ready,
    /// The relay cannot start, and exits after this report.
    Failed {
        /// The error as one sentence.
        error: String,
    },
    /// A request or tunnel that has ended.
    Flow(FlowReport),
    /// A name that the stub resolver answered or could not answer.
    Name(NameReport),
}

/// The report of one HTTP request, of one tunnel or WebSocket, or of one connection that carried none of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowReport {
    /// Cookie of the command's socket; 0 if no slot was found.
    pub cookie: u64,
    /// `bpf_ktime_get_ns` at the connect call, which distinguishes two connects of one socket.
    pub connect_ns: u64,
    /// Address that the command connected to, `ip:port`; absent on the explicit proxy port.
    pub orig_dst: Option<SocketAddr>,
    /// Host name or address of the destination.
    pub host: Option<String>,
    /// Port of the destination.
    pub port: Option<u16>,
    /// `http`, `tls`, `connect`, `websocket`, or the label of other first bytes (`ssh`, `h2c`, `raw`, `client_silent`
    /// …).
    pub protocol: String,
    /// Transport to the mediator: `connect`, `forward`, `websocket`, or `fetch`; absent if nothing
    /// was requested from the mediator.
    pub transport: Option<String>,
    /// `METHOD URL` or `CONNECT host:port`, redacted by [`egress_policy::redact::target_without`].
    pub target: Option<String>,
    /// Length in bytes of the method, a space, and the target before the redaction.
    pub target_bytes: u64,
    /// Bytes of the head (request line and fields) that was sent to the mediator; 0 for a tunnel, and if nothing was
    /// sent.
    pub head_bytes: u64,
    /// `forwarded`, `refused` (by the relay), `blocked` (by the mediator), `answered` (with a page that looks like a
    /// denial, from the mediator or an origin), `failed`, or `unfinished` (cut).
    pub verdict: String,
    /// Stable reason word: `name_mismatch`, `port_not_allowed`, `not_tls_or_http` …; empty when forwarded.
    pub reason: String,
    /// With the verdict `answered`, the reason in the denial. An origin may have written this
    /// reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
    /// HTTP status of the mediator's answer, if it answered.
    pub status: Option<u16>,
    /// Bytes from the command to the mediator: the body of a request, or everything in a tunnel.
    /// The bytes are counted as they pass, so the number is correct however the flow ended.
    pub bytes_up: u64,
    /// Bytes to the command, counted in the same way.
    pub bytes_down: u64,
    /// Time from accept (or from the request head) to the end, in microseconds.
    pub duration_us: u64,
}

/// A name that the command queried. A name is reported when it gets an answer for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameReport {
    /// The queried name in lower case, without the trailing dot. Empty for a malformed query, and `*` for all further
    /// names that get no address.
    pub name: String,
    /// Synthetic address of the name, if it got one.
    pub address: Option<std::net::IpAddr>,
    /// Why the name got no address: `exhausted` or `malformed`; otherwise empty.
    pub reason: String,
}
