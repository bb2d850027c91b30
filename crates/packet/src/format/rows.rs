//! The rows of `flows.jsonl`, one type for each.
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

documents! {
    /// `kernel`: an attempt that a hook saw.
    AttemptRow {
        /// When it was made.
        ts: Time,
        /// The hook.
        hook: Hook,
        /// What the hook did.
        verdict: KernelVerdict,
        /// Why; empty where there is nothing to explain.
        reason: KernelReason,
        /// `tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, `dccp`, `udplite`, `raw`, `mptcp`, or a number.
        protocol: Name,
        /// `SOCK_*`, as Linux numbers them.
        sock_type: u64,
        /// `AF_*`, as Linux numbers them.
        family: u64,
        /// Address that the command asked for.
        dst: Name,
        /// Port that the command asked for.
        port: u16,
        /// Host name that the address stands for, if the stub resolver gave it.
        name: Option<Name>,
        /// Process, outside the boundary's namespaces.
        pid: u64,
        /// User, outside the boundary's namespaces.
        uid: u64,
        /// Name of the process.
        process: String,
        /// Executable of the process, if it still ran.
        exe: Option<Name>,
        /// Socket cookie; 0 where the hook has none.
        cookie: u64,
        /// Kernel monotonic time of the call, ns. With the cookie it names the connection.
        connect_ns: u64,
        /// Attempts that the row stands for.
        count: Exactly<1>,
    }

    /// `kernel` with the protocol `unix`: the use of an `AF_UNIX` address.
    UnixRow {
        /// When it was used.
        ts: Time,
        /// The hook.
        hook: UnixHook,
        /// What became of it.
        verdict: UnixVerdict,
        /// Why; empty where there is nothing to explain.
        reason: UnixReason,
        /// `unix`.
        protocol: UnixProtocol,
        /// `SOCK_*`, as Linux numbers them.
        sock_type: u64,
        /// The path, bytes that are not printable ASCII as `\xNN`, and backslash escapes for tab, CR, LF, quotes, and
        /// the backslash; `@` and a name for an abstract address; `…` beyond 10,000 different addresses.
        path: String,
        /// Process, outside the boundary's namespaces.
        pid: u64,
        /// User, outside the boundary's namespaces.
        uid: u64,
        /// Name of the process.
        process: String,
        /// Executable of the process, if it still ran.
        exe: Option<Name>,
        /// Attempts that the row stands for.
        count: Exactly<1>,
    }

    /// `kernel` in an audit: an answer of a name server.
    DnsAnswerRow {
        /// When it arrived.
        ts: Time,
        /// `skb_ingress`.
        hook: Name,
        /// `dns_answer`.
        verdict: Name,
        /// Address of the name server.
        server: Name,
        /// Whether it is one of the caller's name servers.
        trusted: bool,
        /// Name that was asked for; absent if the answer cannot be read.
        name: Option<Name>,
        /// Addresses in the answer.
        addresses: Vec<Name>,
    }

    /// `kernel_repeats`: how often an attempt was repeated after the row `kernel` for it.
    RepeatsRow {
        /// When the row was written.
        ts: Time,
        /// As in `kernel`.
        hook: Hook,
        /// As in `kernel`.
        verdict: KernelVerdict,
        /// As in `kernel`.
        reason: KernelReason,
        /// As in `kernel`.
        protocol: Name,
        /// As in `kernel`.
        dst: Name,
        /// As in `kernel`.
        port: u16,
        /// As in `kernel`.
        name: Option<Name>,
        /// As in `kernel`.
        process: String,
        /// All attempts, the first included.
        count: u64,
        /// When the first was made.
        first: Time,
        /// When the last was made.
        last: Time,
    }

    /// `kernel_repeats` with the protocol `unix`.
    UnixRepeatsRow {
        /// When the row was written.
        ts: Time,
        /// As in `kernel`.
        hook: UnixHook,
        /// As in `kernel`.
        verdict: UnixVerdict,
        /// As in `kernel`.
        reason: UnixReason,
        /// `unix`.
        protocol: UnixProtocol,
        /// As in `kernel`.
        path: String,
        /// As in `kernel`.
        process: String,
        /// All uses, the first included.
        count: u64,
        /// When the first was made.
        first: Time,
        /// When the last was made.
        last: Time,
    }

    /// `kernel_close`: the bytes of one connection of the command that was `redirected` or `proxy`.
    CloseRow {
        /// When it closed.
        ts: Time,
        /// Socket cookie.
        cookie: u64,
        /// Kernel monotonic time of the connect call, ns.
        connect_ns: u64,
        /// Bytes that left the command's socket: acknowledged and in flight. SYN and FIN count as one each.
        bytes_sent: u64,
        /// Bytes that the other side acknowledged.
        bytes_acked: u64,
        /// Bytes that arrived.
        bytes_received: u64,
    }

    /// `kernel_close_total`: the bytes of all connections of the command after the first 20,000.
    CloseTotalRow {
        /// When the row was written.
        ts: Time,
        /// Connections that the row stands for.
        count: u64,
        /// As in `kernel_close`.
        bytes_sent: u64,
        /// As in `kernel_close`.
        bytes_acked: u64,
        /// As in `kernel_close`.
        bytes_received: u64,
    }

    /// `kernel_mediator`: one TCP connection that the mediator opened, or one datagram that it sent to port 53.
    MediatorRow {
        /// When it closed, or when the row was written if it was open.
        ts: Time,
        /// Protocol.
        protocol: MediatorProtocol,
        /// Address.
        dst: Name,
        /// Port; 0 if the datagram's headers show none.
        port: u16,
        /// Socket cookie.
        cookie: u64,
        /// Kernel monotonic time of the connect call, ns.
        connect_ns: u64,
        /// Time of the connect call.
        opened: Time,
        /// Whether the other side answered.
        established: bool,
        /// Whether the connection had ended when the row was written.
        closed: bool,
        /// Bytes that left, as in `kernel_close`; the payload of a datagram.
        bytes_sent: u64,
        /// Bytes that the other side acknowledged.
        bytes_acked: u64,
        /// Bytes that arrived.
        bytes_received: u64,
    }

    /// `kernel_mediator_total`: connections of the mediator after the first 20,000 with the same `protocol`, `port`, and
    /// `established`.
    MediatorTotalRow {
        /// When the row was written.
        ts: Time,
        /// Protocol.
        protocol: MediatorProtocol,
        /// Port.
        port: u16,
        /// Whether the other side answered.
        established: bool,
        /// Connections or datagrams that the row stands for.
        count: u64,
        /// As in `kernel_mediator`.
        bytes_sent: u64,
        /// As in `kernel_mediator`.
        bytes_acked: u64,
        /// As in `kernel_mediator`.
        bytes_received: u64,
    }

    /// `kernel_mediator_denied`: what the mediator's own sockets may not reach.
    MediatorDeniedRow {
        /// When it was denied.
        ts: Time,
        /// The hook; `skb_egress` for a packet of a connection that the other hooks let through.
        hook: Hook,
        /// What the hook did.
        verdict: MediatorVerdict,
        /// Why.
        reason: MediatorReason,
        /// As in `kernel`.
        protocol: Name,
        /// Address; `::` with `sock_create`.
        dst: Name,
        /// Port; 0 with `sock_create`.
        port: u16,
        /// Socket cookie; 0 where the hook has none.
        cookie: u64,
        /// Kernel monotonic time of the call, ns.
        connect_ns: u64,
        /// Calls that the row stands for.
        count: Exactly<1>,
    }

    /// `kernel_mediator_denied_repeats`: how often a destination was denied again after the row `kernel_mediator_denied` for it.
    MediatorDeniedRepeatsRow {
        /// When the row was written.
        ts: Time,
        /// As in `kernel_mediator_denied`.
        hook: Hook,
        /// As in `kernel_mediator_denied`.
        verdict: MediatorVerdict,
        /// As in `kernel_mediator_denied`.
        reason: MediatorReason,
        /// As in `kernel_mediator_denied`.
        protocol: Name,
        /// As in `kernel_mediator_denied`.
        dst: Name,
        /// As in `kernel_mediator_denied`.
        port: u16,
        /// All calls, the first included.
        count: u64,
        /// When the first was made.
        first: Time,
        /// When the last was made.
        last: Time,
    }

    /// `relay`: what became of one request or tunnel.
    RelayRow {
        /// When the row was written.
        ts: Time,
        /// Socket cookie of the command's connection; 0 if the relay could not name it.
        cookie: u64,
        /// Kernel monotonic time of its connect call, ns.
        connect_ns: u64,
        /// `ADDRESS:PORT` that the command asked for; absent on the explicit proxy port.
        #[cfg_attr(feature = "schema", schemars(with = "Option<Name>"))]
        orig_dst: Option<SocketAddr>,
        /// Host name, as judged.
        host: Option<Name>,
        /// Port, as judged.
        port: Option<u16>,
        /// `http`, `tls`, `connect`, `websocket`, `dns`, or what was denied: `ssh`, `h2c`, `raw`, …
        protocol: Name,
        /// How the mediator was asked; absent if it was not.
        transport: Option<Transport>,
        /// `METHOD URL`, or `CONNECT host:port`; redacted.
        target: Option<Name>,
        /// What became of it.
        verdict: RelayVerdict,
        /// A stable word; empty with `forwarded`.
        reason: String,
        /// With `answered`: `layer:reason` from the answer, which an origin may have written.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        claimed: Option<String>,
        /// HTTP status that the relay received.
        status: Option<u16>,
        /// Bytes from the command: the body of a request, everything in a tunnel.
        bytes_up: u64,
        /// Bytes to the command: the body of the answer, everything in a tunnel.
        bytes_down: u64,
        /// Bytes of the request line and fields as they were sent on; 0 for a tunnel.
        head_bytes: u64,
        /// Time from the accept, or from the request's head, to the end, µs.
        duration_us: u64,
        /// The command's process, if the kernel's record of the connection was seen.
        pid: Option<u32>,
        /// Name of the process.
        process: String,
        /// Executable of the process.
        exe: Option<Name>,
    }

    /// `resolver`: a name that the stub resolver was asked for. There is one row for each name and answer.
    ResolverRow {
        /// When the row was written.
        ts: Time,
        /// The name, lower case, without the final dot.
        name: String,
        /// The synthetic address that was given.
        address: Option<Name>,
        /// Why none was given.
        reason: ResolverReason,
    }

    /// `supervisor`: a look at the enforcement.
    BeatRow {
        /// When the row was written.
        ts: Time,
        /// `heartbeat`, or `agent_gone` when no process of the command is left.
        event: BeatEvent,
        /// 0, 1, 2, …
        beat: u64,
        /// Time between two heartbeats that the supervisor promises, s.
        interval_s: Exactly<HEARTBEAT_S>,
        /// Ids of the kernel programs' links that are attached now.
        links: Vec<u64>,
        /// Processes in the command's cgroup, except init.
        processes: u64,
        /// Those among 1,024 of them that lack the filters, hold a capability, could gain privileges, or have another
        /// user id.
        unconfined: u64,
        /// Kernel events lost since the start.
        ring_full: u64,
        /// Calls of the relay that its own kernel programs denied.
        relay_denied: u64,
    }

    /// `supervisor` with the event `end`: the last row.
    EndRow {
        /// When the row was written.
        ts: Time,
        /// `end`.
        event: EndEvent,
        /// As in a heartbeat.
        beat: u64,
        /// As in a heartbeat.
        interval_s: Exactly<HEARTBEAT_S>,
        /// As in a heartbeat.
        links: Vec<u64>,
        /// As in a heartbeat.
        processes: u64,
        /// As in a heartbeat.
        unconfined: u64,
        /// As in a heartbeat.
        ring_full: u64,
        /// As in a heartbeat.
        relay_denied: u64,
        /// Kernel events that could not be read.
        malformed: u64,
        /// By how much the system clock was set during the run, both ways added, ms.
        clock_set_ms: u64,
    }
}
