//! Reads and writes a row of `flows.jsonl`. The chain adds `seq`, `prev_hash`, and `hash` to it.
use pipelock_receipts::json::{MAX_DEPTH, Node, parse_bytes};
use serde::{Deserialize, Serialize};

use super::check::deviations;
use super::rows::{
    AttemptRow, BeatRow, CloseRow, CloseTotalRow, DnsAnswerRow, EndRow, MediatorDeniedRepeatsRow,
    MediatorDeniedRow, MediatorRow, MediatorTotalRow, RelayRow, RepeatsRow, ResolverRow,
    UnixRepeatsRow, UnixRow,
};
use super::words::{BeatEvent, EndEvent, Transport};

/// The members that the chain adds to a row.
pub(crate) const OF_CHAIN: [&str; 3] = ["seq", "prev_hash", "hash"];

/// The verdict of a name server's answer.
const DNS_ANSWER: &str = "dns_answer";

/// A row, by its `source`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Row {
    /// An attempt that a hook recorded.
    Kernel(AttemptRow),
    /// The use of an `AF_UNIX` address that a hook recorded.
    #[serde(rename = "kernel")]
    Unix(UnixRow),
    /// The answer of a name server that an audit recorded.
    #[serde(rename = "kernel")]
    DnsAnswer(DnsAnswerRow),
    /// Repetitions of an attempt. The first attempt has a `kernel` row.
    KernelRepeats(RepeatsRow),
    /// Further uses of an `AF_UNIX` address. The first use has a `kernel` row.
    #[serde(rename = "kernel_repeats")]
    UnixRepeats(UnixRepeatsRow),
    /// The bytes of one connection of the command, at its end.
    KernelClose(CloseRow),
    /// The bytes of all later connections of the command.
    KernelCloseTotal(CloseTotalRow),
    /// One connection that the mediator opened, or one datagram that it sent to a name server.
    KernelMediator(MediatorRow),
    /// The sums of later connections or datagrams with the same protocol and port.
    KernelMediatorTotal(MediatorTotalRow),
    /// A destination that the hooks on the mediator's own sockets denied.
    KernelMediatorDenied(MediatorDeniedRow),
    /// Further denials of a destination. The first denial has a `kernel_mediator_denied` row.
    KernelMediatorDeniedRepeats(MediatorDeniedRepeatsRow),
    /// The result of one request or tunnel.
    Relay(Box<RelayRow>),
    /// A name in a query to the stub resolver.
    Resolver(ResolverRow),
    /// A check of the enforcement.
    Supervisor(BeatRow),
    /// The last row.
    #[serde(rename = "supervisor")]
    End(EndRow),
    /// A row of an unknown source, or with a member of another type. The text describes the deviation.
    #[serde(skip)]
    Unknown(String),
}

/// The attempts of the command that one row counts. Attempts to use an `AF_UNIX` address have no port and no name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried<'r> {
    /// Verdict of the kernel.
    pub verdict: &'r str,
    /// Reason for the verdict.
    pub reason: &'r str,
    /// Protocol.
    pub protocol: &'r str,
    /// Address or path.
    pub place: &'r str,
    /// Port.
    pub port: u16,
    /// Host name that the address stands for.
    pub name: Option<&'r str>,
    /// Name of the process.
    pub process: &'r str,
    /// Number of attempts, without those that an earlier row counts. The first of several equal attempts has its own
    /// row.
    pub count: u64,
}

/// Returns the attempts that a row counts. The row's member `$place` is the destination.
macro_rules! tried {
    ($row:ident, $place:ident, $port:expr, $name:expr, $count:expr) => {
        Some(Tried {
            verdict: $row.verdict.as_str(),
            reason: $row.reason.as_str(),
            protocol: $row.protocol.as_str(),
            place: &$row.$place,
            port: $port,
            name: $name,
            process: &$row.process,
            count: $count,
        })
    };
}

impl Row {
    /// Reads a row by its `source`.
    pub fn read(node: &Node<'_>) -> Self {
        fn typed<'n, T: Deserialize<'n>>(node: &'n Node<'_>, row: fn(T) -> Row) -> Row {
            node.typed()
                .map_or_else(|error| Row::Unknown(error.to_string()), row)
        }
        let is_unix = || node.member_text("protocol") == "unix";
        match node.member_text("source") {
            "kernel" if is_unix() => typed(node, Self::Unix),
            "kernel" if node.member_text("verdict") == DNS_ANSWER => typed(node, Self::DnsAnswer),
            "kernel" => typed(node, Self::Kernel),
            "kernel_repeats" if is_unix() => typed(node, Self::UnixRepeats),
            "kernel_repeats" => typed(node, Self::KernelRepeats),
            "kernel_close" => typed(node, Self::KernelClose),
            "kernel_close_total" => typed(node, Self::KernelCloseTotal),
            "kernel_mediator" => typed(node, Self::KernelMediator),
            "kernel_mediator_total" => typed(node, Self::KernelMediatorTotal),
            "kernel_mediator_denied" => typed(node, Self::KernelMediatorDenied),
            "kernel_mediator_denied_repeats" => typed(node, Self::KernelMediatorDeniedRepeats),
            "relay" => typed(node, |row| Self::Relay(Box::new(row))),
            "resolver" => typed(node, Self::Resolver),
            "supervisor" if node.member_text("event") == "end" => typed(node, Self::End),
            "supervisor" => typed(node, Self::Supervisor),
            other => Self::Unknown(format!("source {other}")),
        }
    }

    /// Describes the parts of the row that this version never writes in an enforced run.
    pub(crate) fn deviations(&self, node: &Node<'_>) -> Vec<String> {
        let verdict = self.attempts().map(|attempts| attempts.verdict);
        match (self, verdict) {
            (Self::Unknown(why), _) => vec![why.clone()],
            (_, Some(verdict @ (DNS_ANSWER | "would_deny" | "would_redirect"))) => {
                vec![format!("verdict is \"{verdict}\"")]
            }
            (row, _) => deviations(row, node, &OF_CHAIN),
        }
    }

    /// Returns the first part of the row that this version never writes. `line` is the row as a line of the flow log.
    /// Only rows with text from another process are checked. The supervisor makes all other rows from its own words.
    pub fn unwritable(&self, line: &[u8]) -> Option<String> {
        if !matches!(self, Self::Relay(_) | Self::Resolver(_)) {
            return None;
        }
        match parse_bytes(line.trim_ascii_end(), MAX_DEPTH) {
            Ok(node) => deviations(self, &node, &OF_CHAIN).into_iter().next(),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Returns the attempts of the command, if the row is about attempts.
    pub fn attempts(&self) -> Option<Tried<'_>> {
        match self {
            Self::Kernel(row) => tried!(row, dst, row.port, row.name.as_deref(), 1),
            Self::Unix(row) => tried!(row, path, 0, None, 1),
            Self::KernelRepeats(row) => {
                let more = row.count.saturating_sub(1);
                tried!(row, dst, row.port, row.name.as_deref(), more)
            }
            Self::UnixRepeats(row) => {
                tried!(row, path, 0, None, row.count.saturating_sub(1))
            }
            Self::DnsAnswer(row) => Some(Tried {
                verdict: &row.verdict,
                count: 1,
                ..Tried::default()
            }),
            Self::KernelClose(_)
            | Self::KernelCloseTotal(_)
            | Self::KernelMediator(_)
            | Self::KernelMediatorTotal(_)
            | Self::KernelMediatorDenied(_)
            | Self::KernelMediatorDeniedRepeats(_)
            | Self::Relay(_)
            | Self::Resolver(_)
            | Self::Supervisor(_)
            | Self::End(_)
            | Self::Unknown(_) => None,
        }
    }

    /// Returns the time of the row, or "" if it is unknown.
    pub(crate) fn ts(&self) -> &str {
        match self {
            Self::Kernel(row) => &row.ts,
            Self::Unix(row) => &row.ts,
            Self::DnsAnswer(row) => &row.ts,
            Self::KernelRepeats(row) => &row.ts,
            Self::UnixRepeats(row) => &row.ts,
            Self::KernelClose(row) => &row.ts,
            Self::KernelCloseTotal(row) => &row.ts,
            Self::KernelMediator(row) => &row.ts,
            Self::KernelMediatorTotal(row) => &row.ts,
            Self::KernelMediatorDenied(row) => &row.ts,
            Self::KernelMediatorDeniedRepeats(row) => &row.ts,
            Self::Relay(row) => &row.ts,
            Self::Resolver(row) => &row.ts,
            Self::Supervisor(row) => &row.ts,
            Self::End(row) => &row.ts,
            Self::Unknown(_) => "",
        }
    }
}

impl RelayRow {
    /// Returns the cookie and the time of the connection, if the relay had them.
    pub fn connection(&self) -> Option<(u64, u64)> {
        (self.cookie != 0).then_some((self.cookie, self.connect_ns))
    }

    /// Returns whether the relay could read the request, which was HTTP without TLS.
    pub(crate) fn is_plain_http(&self) -> bool {
        matches!(&*self.protocol, "http" | "websocket")
    }

    /// Returns whether the row is about a tunnel in which the relay could not read requests.
    pub(crate) fn is_sealed_tunnel(&self) -> bool {
        self.transport == Some(Transport::Connect) && !self.is_plain_http()
    }

    /// Returns the transport of the request to the mediator.
    pub fn asked(&self) -> Option<&str> {
        self.transport.as_ref().map(Transport::as_str)
    }
}

impl EndRow {
    /// Returns the last row: a check of the enforcement, and the counts of the run.
    pub fn of(beat: BeatRow, malformed: u64, clock_set_ms: u64) -> Self {
        Self {
            ts: beat.ts,
            event: EndEvent::End,
            beat: beat.beat,
            interval_s: beat.interval_s,
            links: beat.links,
            processes: beat.processes,
            unconfined: beat.unconfined,
            ring_full: beat.ring_full,
            relay_denied: beat.relay_denied,
            malformed,
            clock_set_ms,
        }
    }

    /// Returns the check of the enforcement in the row.
    pub(crate) fn beat(&self) -> BeatRow {
        BeatRow {
            ts: self.ts.clone(),
            event: BeatEvent::default(),
            beat: self.beat,
            interval_s: self.interval_s,
            links: self.links.clone(),
            processes: self.processes,
            unconfined: self.unconfined,
            ring_full: self.ring_full,
            relay_denied: self.relay_denied,
        }
    }
}
