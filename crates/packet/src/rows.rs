//! The rows of `flows.jsonl` that the comparison with the receipts reads: one type for the writer and every reader.
//!
//! A row may hold more members than its type has: later versions add some, and the chain owns `seq`, `prev_hash`,
//! and `hash`. A member that is absent has its default, so that the log of an earlier version can still be read.
use std::net::SocketAddr;

use pipelock_receipts::json::Node;
use serde::{Deserialize, Serialize};

/// A row, as far as it takes part in the comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// `kernel`: one attempt, as a hook saw it.
    Kernel(KernelRow),
    /// `kernel_repeats`: how often an attempt was repeated that has a row of its own.
    KernelRepeats(KernelRow),
    /// `kernel_close`: the bytes of one connection of the command, at its end.
    KernelClose(CloseRow),
    /// `kernel_close_total`: the bytes of all later connections of the command together.
    KernelCloseTotal(CloseRow),
    /// `kernel_mediator`: one connection that the mediator opened, or one datagram to a name server.
    KernelMediator(MediatorRow),
    /// `kernel_mediator_total`: later ones of the same protocol and port together.
    KernelMediatorTotal(MediatorRow),
    /// `kernel_mediator_denied`: a destination that the gates on the mediator's own sockets denied.
    KernelMediatorDenied(MediatorDeniedRow),
    /// `kernel_mediator_denied_repeats`: how often, if it has a row already.
    KernelMediatorDeniedRepeats(MediatorDeniedRow),
    /// `relay`: what became of one request or tunnel.
    Relay(Box<RelayRow>),
    /// `supervisor`: a heartbeat, or another note on the run itself.
    Supervisor(SupervisorRow),
    /// `resolver`: a name that the stub resolver was asked for.
    Resolver,
    /// A source that this version does not know, or a member of another type.
    Unknown,
}

/// What a hook did with an attempt, as far as the comparison reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelRow {
    /// The word of `egress_common::verdict::Verdict`.
    pub verdict: String,
    /// Socket cookie; 0 where the hook has none.
    pub cookie: u64,
    /// Kernel monotonic time of the call, ns. With the cookie it names the connection.
    pub connect_ns: u64,
    /// Attempts that the row stands for.
    pub count: u64,
}

/// Bytes of one or more connections of the command, as the kernel counted them on the command's side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CloseRow {
    /// Socket cookie; absent in a total.
    #[serde(skip_serializing_if = "is_zero")]
    pub cookie: u64,
    /// Kernel monotonic time of the connect call, ns; absent in a total.
    #[serde(skip_serializing_if = "is_zero")]
    pub connect_ns: u64,
    /// Connections that a total stands for; absent otherwise.
    #[serde(skip_serializing_if = "is_zero")]
    pub count: u64,
    /// Bytes that left the command's socket: acknowledged or in flight. SYN and FIN count as one byte each.
    pub bytes_sent: u64,
    /// Bytes that the other end acknowledged.
    pub bytes_acked: u64,
    /// Bytes that arrived.
    pub bytes_received: u64,
}

/// What the mediator's own sockets did, as the kernel saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MediatorRow {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Address; absent in a total.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dst: String,
    /// Port; 0 of a datagram whose headers could not be read.
    pub port: u16,
    /// Socket cookie; absent in a total.
    #[serde(skip_serializing_if = "is_zero")]
    pub cookie: u64,
    /// Kernel monotonic time of the connect call, ns; absent in a total.
    #[serde(skip_serializing_if = "is_zero")]
    pub connect_ns: u64,
    /// The same as wall time, RFC 3339; absent in a total.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub opened: String,
    /// Whether the other end answered.
    pub established: bool,
    /// Whether the connection had ended when the row was written; absent in a total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<bool>,
    /// Connections or datagrams that a total stands for; absent otherwise.
    #[serde(skip_serializing_if = "is_zero")]
    pub count: u64,
    /// Bytes that left, as in [`CloseRow`]; of a datagram its payload.
    pub bytes_sent: u64,
    /// Bytes that the other end acknowledged.
    pub bytes_acked: u64,
    /// Bytes that arrived.
    pub bytes_received: u64,
}

/// What the gates on the mediator's own sockets denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MediatorDeniedRow {
    /// `denied`, or `probe` if nothing would have been sent.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// Protocol of the socket.
    pub protocol: String,
    /// Address.
    pub dst: String,
    /// Port.
    pub port: u16,
    /// Calls that the row stands for.
    pub count: u64,
}

/// What became of one request or tunnel, as the relay reports it, and which process asked for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RelayRow {
    /// Wall time at which the row was written, RFC 3339; the log adds it.
    #[serde(skip_serializing)]
    pub ts: String,
    /// Cookie of the command's socket; 0 when it is not known.
    pub cookie: u64,
    /// Kernel monotonic time of its connect call, ns.
    pub connect_ns: u64,
    /// The address that the command asked for; absent on the explicit proxy port.
    pub orig_dst: Option<SocketAddr>,
    /// Host name, as judged.
    pub host: Option<String>,
    /// Port asked for.
    pub port: Option<u16>,
    /// `http`, `tls`, `connect`, `websocket`, `dns`, or the label of what was denied (`ssh`, `h2c`, `raw` …).
    pub protocol: String,
    /// How the mediator was asked: `connect`, `forward`, `websocket`, `fetch`; absent when it was not.
    pub transport: Option<String>,
    /// `METHOD URL`, redacted; of a tunnel `CONNECT host:port`.
    pub target: Option<String>,
    /// What became of it.
    pub verdict: RelayVerdict,
    /// Stable reason word.
    pub reason: String,
    /// With `answered`, the words of the answer, which an origin may have written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
    /// Status of the answer, when there was one.
    pub status: Option<u16>,
    /// Bytes from the command: the body of a request, everything in a tunnel.
    pub bytes_up: u64,
    /// Bytes to the command, the same.
    pub bytes_down: u64,
    /// Bytes of the request's head as it was sent on; 0 of a tunnel.
    pub head_bytes: u64,
    /// Time from the accept, or the head of the request, to the end, µs.
    pub duration_us: u64,
    /// Process that opened the connection, initial pid namespace, when the kernel's record of it was seen.
    pub pid: Option<u32>,
    /// Its name.
    pub process: String,
    /// Its executable.
    pub exe: Option<String>,
}

/// What became of a request or tunnel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayVerdict {
    /// The mediator let it through, and both halves ended in order.
    Forwarded,
    /// The relay denied it; the mediator was never asked.
    Refused,
    /// The mediator denied it, and the relay knows that the answer is the mediator's.
    Blocked,
    /// The answer looks like a denial by the mediator, which an origin can imitate.
    Answered,
    /// It went wrong.
    Failed,
    /// It was cut before both halves had ended.
    Unfinished,
    /// A word that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl RelayVerdict {
    /// The verdict of a word.
    pub fn of(word: &str) -> Self {
        let known = [
            Self::Forwarded,
            Self::Refused,
            Self::Blocked,
            Self::Answered,
            Self::Failed,
            Self::Unfinished,
        ];
        known
            .into_iter()
            .find(|verdict| verdict.word() == word)
            .unwrap_or(Self::Unknown)
    }

    /// The word in the row.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Refused => "refused",
            Self::Blocked => "blocked",
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Unfinished => "unfinished",
            Self::Unknown => "unknown",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A note on the run itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SupervisorRow {
    /// Wall time at which the row was written, RFC 3339.
    pub ts: String,
    /// `heartbeat`, `agent_gone`, `end`, …
    pub event: String,
    /// By how much the system clock was set during the run, both ways together, ms; in the `end` row.
    pub clock_set_ms: u64,
}

impl Row {
    /// Reads a row by its `source`. One that has a member of another type is unknown, too.
    pub fn read(node: &Node<'_>) -> Self {
        fn typed<T: for<'de> Deserialize<'de>>(node: &Node<'_>, row: fn(T) -> Row) -> Row {
            serde_json::from_str(node.raw).map_or(Row::Unknown, row)
        }
        match node.member_text("source") {
            "kernel" => typed(node, Self::Kernel),
            "kernel_repeats" => typed(node, Self::KernelRepeats),
            "kernel_close" => typed(node, Self::KernelClose),
            "kernel_close_total" => typed(node, Self::KernelCloseTotal),
            "kernel_mediator" => typed(node, Self::KernelMediator),
            "kernel_mediator_total" => typed(node, Self::KernelMediatorTotal),
            "kernel_mediator_denied" => typed(node, Self::KernelMediatorDenied),
            "kernel_mediator_denied_repeats" => typed(node, Self::KernelMediatorDeniedRepeats),
            "relay" => typed(node, |row| Self::Relay(Box::new(row))),
            "supervisor" => typed(node, Self::Supervisor),
            "resolver" => Self::Resolver,
            _ => Self::Unknown,
        }
    }
}

impl RelayRow {
    /// What names its connection, when the relay knew it.
    pub fn connection(&self) -> Option<(u64, u64)> {
        (self.cookie != 0).then_some((self.cookie, self.connect_ns))
    }
}
