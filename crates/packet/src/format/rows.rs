//! The types of the rows of `flows.jsonl`.
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::value::{Exactly, Name, Time};
use super::words::{
    BeatEvent, EndEvent, Hook, KernelReason, KernelVerdict, MediatorProtocol, MediatorReason,
    MediatorVerdict, RelayVerdict, ResolverReason, Transport, UnixHook, UnixProtocol, UnixReason,
    UnixVerdict,
};

/// Time between two heartbeats, s.
pub const HEARTBEAT_S: u64 = 10;

/// Reason with which the relay denies a port.
pub(crate) const PORT_NOT_ALLOWED: &str = "port_not_allowed";

documents! {
    /// `kernel`: an attempt that a hook recorded.
    AttemptRow {
        /// Time of the attempt.
        ts: Time,
        /// The hook.
        hook: Hook,
        /// Verdict of the hook.
        verdict: KernelVerdict,
        /// Reason for the verdict. Empty if the verdict needs none.
        reason: KernelReason,
        /// `tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, `dccp`, `udplite`, `raw`, `mptcp`, or a number.
        protocol: Name,
        /// Linux number of the socket type, `SOCK_*`.
        sock_type: u64,
        /// Linux number of the address family, `AF_*`.
        family: u64,
        /// Destination address.
        dst: Name,
        /// Destination port.
        port: u16,
        /// Host name, if the address is a synthetic address of the stub resolver.
        name: Option<Name>,
        /// Process id in the host's namespaces.
        pid: u64,
        /// User id in the host's namespaces.
        uid: u64,
        /// Name of the process.
        process: String,
        /// Executable of the process, if the process still ran.
        exe: Option<Name>,
        /// Socket cookie. 0 if the hook has no cookie.
        cookie: u64,
        /// Kernel monotonic time of the call, ns. The time and the cookie together identify the connection.
        connect_ns: u64,
        /// Number of attempts that the row counts.
        count: Exactly<1>,
    }

    /// `kernel` with the protocol `unix`: the use of an `AF_UNIX` address.
    UnixRow {
        /// Time of the use.
        ts: Time,
        /// The hook.
        hook: UnixHook,
        /// Result of the use.
        verdict: UnixVerdict,
        /// Reason for the verdict. Empty if the verdict needs none.
        reason: UnixReason,
        /// `unix`.
        protocol: UnixProtocol,
        /// Linux number of the socket type, `SOCK_*`.
        sock_type: u64,
        /// Path of the socket, or `@` and a name for an abstract address. Tab, CR, LF, quotes, and the backslash are
        /// escaped with a backslash, and other bytes that are not printable ASCII are `\xNN`. `…` after 10,000
        /// different addresses.
        path: String,
        /// Process id in the host's namespaces.
        pid: u64,
        /// User id in the host's namespaces.
        uid: u64,
        /// Name of the process.
        process: String,
        /// Executable of the process, if the process still ran.
        exe: Option<Name>,
        /// Number of attempts that the row counts.
        count: Exactly<1>,
    }

    /// `kernel` in an audit: an answer of a name server.
    DnsAnswerRow {
        /// Time of the arrival.
        ts: Time,
        /// `skb_ingress`.
        hook: Name,
        /// `dns_answer`.
        verdict: Name,
        /// Address of the name server.
        server: Name,
        /// Whether the server is one of the caller's name servers.
        trusted: bool,
        /// Name in the query. Null if the answer cannot be read.
        name: Option<Name>,
        /// Addresses in the answer.
        addresses: Vec<Name>,
    }

    /// `kernel_repeats`: the number of repetitions of an attempt that already has a `kernel` row.
    RepeatsRow {
        /// Time at which the row was written.
        ts: Time,
        /// Same meaning as in a `kernel` row.
        hook: Hook,
        /// Same meaning as in a `kernel` row.
        verdict: KernelVerdict,
        /// Same meaning as in a `kernel` row.
        reason: KernelReason,
        /// Same meaning as in a `kernel` row.
        protocol: Name,
        /// Same meaning as in a `kernel` row.
        dst: Name,
        /// Same meaning as in a `kernel` row.
        port: u16,
        /// Same meaning as in a `kernel` row.
        name: Option<Name>,
        /// Same meaning as in a `kernel` row.
        process: String,
        /// Number of all attempts, including the first attempt.
        count: u64,
        /// Time of the first attempt.
        first: Time,
        /// Time of the last attempt.
        last: Time,
    }

    /// `kernel_repeats` with the protocol `unix`.
    UnixRepeatsRow {
        /// Time at which the row was written.
        ts: Time,
        /// Same meaning as in a `kernel` row.
        hook: UnixHook,
        /// Same meaning as in a `kernel` row.
        verdict: UnixVerdict,
        /// Same meaning as in a `kernel` row.
        reason: UnixReason,
        /// `unix`.
        protocol: UnixProtocol,
        /// Same meaning as in a `kernel` row.
        path: String,
        /// Same meaning as in a `kernel` row.
        process: String,
        /// Number of all uses, including the first use.
        count: u64,
        /// Time of the first use.
        first: Time,
        /// Time of the last use.
        last: Time,
    }

    /// `kernel_close`: the bytes of one connection of the command that was `redirected` or `proxy`.
    CloseRow {
        /// Time of the close.
        ts: Time,
        /// Socket cookie.
        cookie: u64,
        /// Kernel monotonic time of the connect call, ns.
        connect_ns: u64,
        /// Bytes that left the command's socket, acknowledged or in flight. SYN and FIN count as one byte each.
        bytes_sent: u64,
        /// Bytes that the other side acknowledged.
        bytes_acked: u64,
        /// Bytes that arrived.
        bytes_received: u64,
    }

    /// `kernel_close_total`: the bytes of all connections of the command after the first 20,000.
    CloseTotalRow {
        /// Time at which the row was written.
        ts: Time,
        /// Number of connections that the row counts.
        count: u64,
        /// Same meaning as in a `kernel_close` row.
        bytes_sent: u64,
        /// Same meaning as in a `kernel_close` row.
        bytes_acked: u64,
        /// Same meaning as in a `kernel_close` row.
        bytes_received: u64,
    }

    /// `kernel_mediator`: one TCP connection that the mediator opened, or one datagram that it sent to port 53.
    MediatorRow {
        /// Time of the close. If the connection was open, time at which the row was written.
        ts: Time,
        /// Protocol.
        protocol: MediatorProtocol,
        /// Destination address.
        dst: Name,
        /// Destination port. 0 if the headers of the datagram have none.
        port: u16,
        /// Socket cookie.
        cookie: u64,
        /// Kernel monotonic time of the connect call, ns.
        connect_ns: u64,
        /// Time of the connect call.
        opened: Time,
        /// Whether the connection was established.
        established: bool,
        /// Whether the connection was closed when the row was written.
        closed: bool,
        /// Bytes that left the socket, as in `kernel_close`, or the payload of a datagram.
        bytes_sent: u64,
        /// Bytes that the other side acknowledged.
        bytes_acked: u64,
        /// Bytes that arrived.
        bytes_received: u64,
    }

    /// `kernel_mediator_total`: connections of the mediator after the first 20,000 with the same `protocol`, `port`,
    /// and `established`.
    MediatorTotalRow {
        /// Time at which the row was written.
        ts: Time,
        /// Protocol.
        protocol: MediatorProtocol,
        /// Destination port.
        port: u16,
        /// Whether the connection was established.
        established: bool,
        /// Number of connections or datagrams that the row counts.
        count: u64,
        /// Same meaning as in a `kernel_mediator` row.
        bytes_sent: u64,
        /// Same meaning as in a `kernel_mediator` row.
        bytes_acked: u64,
        /// Same meaning as in a `kernel_mediator` row.
        bytes_received: u64,
    }

    /// `kernel_mediator_denied`: a destination that the hooks on the mediator's own sockets denied.
    MediatorDeniedRow {
        /// Time of the denial.
        ts: Time,
        /// The hook. `skb_egress` for a network packet of a connection that the other hooks allowed.
        hook: Hook,
        /// Verdict of the hook.
        verdict: MediatorVerdict,
        /// Reason for the denial.
        reason: MediatorReason,
        /// Same meaning as in a `kernel` row.
        protocol: Name,
        /// Destination address. `::` with `sock_create`.
        dst: Name,
        /// Destination port. 0 with `sock_create`.
        port: u16,
        /// Socket cookie. 0 if the hook has no cookie.
        cookie: u64,
        /// Kernel monotonic time of the call, ns.
        connect_ns: u64,
        /// Number of calls that the row counts.
        count: Exactly<1>,
    }

    /// `kernel_mediator_denied_repeats`: the number of further denials of a destination that
    /// already has a `kernel_mediator_denied` row.
    MediatorDeniedRepeatsRow {
        /// Time at which the row was written.
        ts: Time,
        /// Same meaning as in a `kernel_mediator_denied` row.
        hook: Hook,
        /// Same meaning as in a `kernel_mediator_denied` row.
        verdict: MediatorVerdict,
        /// Same meaning as in a `kernel_mediator_denied` row.
        reason: MediatorReason,
        /// Same meaning as in a `kernel_mediator_denied` row.
        protocol: Name,
        /// Same meaning as in a `kernel_mediator_denied` row.
        dst: Name,
        /// Same meaning as in a `kernel_mediator_denied` row.
        port: u16,
        /// Number of all calls, including the first call.
        count: u64,
        /// Time of the first call.
        first: Time,
        /// Time of the last call.
        last: Time,
    }

    /// `relay`: the result of one request or tunnel.
    RelayRow {
        /// Time at which the row was written.
        ts: Time,
        /// Socket cookie of the command's connection. 0 if the relay found no record of the connection.
        cookie: u64,
        /// Kernel monotonic time of the connect call, ns.
        connect_ns: u64,
        /// `ADDRESS:PORT` that the command connected to. Null on the explicit proxy port.
        #[cfg_attr(feature = "schema", schemars(with = "Option<Name>"))]
        orig_dst: Option<SocketAddr>,
        /// Host name that the relay judged.
        host: Option<Name>,
        /// Port that the relay judged.
        port: Option<u16>,
        /// `http`, `tls`, `connect`, `websocket`, `dns`, or the denied protocol: `ssh`, `h2c`, `raw`, …
        protocol: Name,
        /// Transport of the request to the mediator. Null if there was no request.
        transport: Option<Transport>,
        /// `METHOD URL` or `CONNECT host:port`, redacted.
        target: Option<Name>,
        /// Result of the request or tunnel.
        verdict: RelayVerdict,
        /// Reason in a stable word. Empty with `forwarded`.
        reason: String,
        /// With `answered`, the text `layer:reason` from the answer. An origin may have written
        /// this text.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        claimed: Option<String>,
        /// HTTP status that the relay received.
        status: Option<u16>,
        /// Bytes from the command: the body of a request, or everything in a tunnel.
        bytes_up: u64,
        /// Bytes to the command: the body of the answer, or everything in a tunnel.
        bytes_down: u64,
        /// Bytes of the request line and header fields that the relay sent. 0 for a tunnel.
        head_bytes: u64,
        /// Time from the accept or from the head of the request to the end, µs.
        duration_us: u64,
        /// Process id of the command's process, if the kernel recorded the connection.
        pid: Option<u32>,
        /// Name of the process.
        process: String,
        /// Executable of the process.
        exe: Option<Name>,
    }

    /// `resolver`: a name in a query to the stub resolver. There is one row for each name and answer.
    ResolverRow {
        /// Time at which the row was written.
        ts: Time,
        /// The name in lower case, without a final dot.
        name: String,
        /// The synthetic address in the answer.
        address: Option<Name>,
        /// Reason why the answer has no address.
        reason: ResolverReason,
    }

    /// `supervisor`: a check of the enforcement.
    BeatRow {
        /// Time at which the row was written.
        ts: Time,
        /// `heartbeat`, or `agent_gone` if no process of the command is left.
        event: BeatEvent,
        /// Number of the heartbeat: 0, 1, 2, …
        beat: u64,
        /// Planned time between two heartbeats, s.
        interval_s: Exactly<HEARTBEAT_S>,
        /// Ids of the links of kernel programs that are attached at this time.
        links: Vec<u64>,
        /// Number of processes in the command's cgroup, without init.
        processes: u64,
        /// Number of processes that lack the filters, have a capability, can gain privileges, or have another user id.
        /// At most 1,024 processes are checked.
        unconfined: u64,
        /// Number of kernel events that were lost since the start.
        ring_full: u64,
        /// Calls of the relay that the kernel programs on its cgroup denied.
        relay_denied: u64,
    }

    /// `supervisor` with the event `end`: the last row.
    EndRow {
        /// Time at which the row was written.
        ts: Time,
        /// `end`.
        event: EndEvent,
        /// Same meaning as in a heartbeat.
        beat: u64,
        /// Same meaning as in a heartbeat.
        interval_s: Exactly<HEARTBEAT_S>,
        /// Same meaning as in a heartbeat.
        links: Vec<u64>,
        /// Same meaning as in a heartbeat.
        processes: u64,
        /// Same meaning as in a heartbeat.
        unconfined: u64,
        /// Same meaning as in a heartbeat.
        ring_full: u64,
        /// Same meaning as in a heartbeat.
        relay_denied: u64,
        /// Number of kernel events that could not be read.
        malformed: u64,
        /// Sum of the amounts by which the system clock was set during the run, forward and back,
        /// ms.
        clock_set_ms: u64,
    }
}
