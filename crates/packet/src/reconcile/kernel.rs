//! Collects the kernel's records: the command's connections by cookie, and the mediator's connections.
use std::collections::BTreeMap;

use super::disagreement::Disagreement;
use super::result::Reconciliation;
use super::tally;
use crate::format::rows::{
    AttemptRow, CloseRow, CloseTotalRow, MediatorRow, MediatorTotalRow, RelayRow, RepeatsRow,
};
use crate::format::{KernelVerdict, MediatorProtocol, RelayVerdict, Transport};

/// Bytes that may be unread in the buffers of one connection, or in a process that carries the connection. The default
/// maximum of `tcp_rmem` is 6 MiB.
pub(super) const IN_BUFFERS: u64 = 16 << 20;
/// Bytes that the head of a request and the framing of its body may take.
const HEAD: u64 = 128 << 10;
/// Bytes around a chunk of one byte: its size and two line ends.
const CHUNK_FRAMING: u64 = 5;
/// Length of the TLS alert with which the relay ends a tunnel.
const ALERT: u64 = 7;
/// The end of a stream, which the kernel counts like a byte.
const END_OF_STREAM: u64 = 1;
/// The port of name servers. The mediator also connects to this port without a request.
pub(super) const DNS: u16 = 53;

#[derive(Debug, Default)]
struct Connection {
    /// Whether the kernel redirected the connection.
    redirected: bool,
    /// Whether the connection went to the explicit proxy.
    proxy: bool,
    /// Number of the relay's rows.
    served: u64,
    /// Bytes from the command and to the command in the relay's rows.
    up: u64,
    down: u64,
    /// Maximum number of bytes to the command that the relay wrote itself. This number is known only for tunnels of
    /// redirected connections.
    own: u64,
    /// Bytes that the framing of the bodies may have taken: five for each byte of a body, as in chunks of one byte.
    framing: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Opened {
    pub(super) established: u64,
    pub(super) bytes: u64,
}

/// The kernel's counts of the bytes from the command and to the command.
#[derive(Debug, Clone, Copy, Default)]
struct Bytes {
    sent: u64,
    acked: u64,
    received: u64,
}

/// The kernel's records, collected row by row.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    /// Connections by cookie and time. The kernel's row or the relay's row may come first.
    connections: BTreeMap<(u64, u64), Connection>,
    /// Bytes of closed connections by cookie and time.
    closes: BTreeMap<(u64, u64), Bytes>,
    /// Number of connections to the relay without their own row: redirected ones, and ones to the explicit proxy.
    redirected_more: u64,
    proxy_more: u64,
    /// Number and bytes of the connections whose closes share a row.
    closed_more: u64,
    bytes_more: Bytes,
    verdicts: BTreeMap<String, u64>,
    /// Number of rows of the relay without a cookie.
    nameless: u64,
    /// Number of such rows of the relay with the verdict `forwarded`.
    nameless_through: u64,
    pub(super) opened: BTreeMap<u16, Opened>,
}

impl Kernel {
    pub(super) fn attempt(&mut self, row: &AttemptRow) {
        if row.cookie == 0 {
            return;
        }
        let connection = (row.cookie, row.connect_ns);
        if row.verdict == KernelVerdict::Redirected {
            self.connection(connection).redirected = true;
        } else if row.verdict == KernelVerdict::Proxy {
            self.connection(connection).proxy = true;
        }
    }

    /// Reads repeated attempts. The first of these attempts has its own row.
    pub(super) fn repeats(&mut self, row: &RepeatsRow) {
        let more = row.count.saturating_sub(1);
        if row.verdict == KernelVerdict::Redirected {
            self.redirected_more = self.redirected_more.saturating_add(more);
        } else if row.verdict == KernelVerdict::Proxy {
            self.proxy_more = self.proxy_more.saturating_add(more);
        }
    }

    pub(super) fn close(&mut self, row: &CloseRow) {
        let name = (row.cookie, row.connect_ns);
        self.connection(name);
        let bytes = Bytes {
            sent: row.bytes_sent,
            acked: row.bytes_acked,
            received: row.bytes_received,
        };
        self.closes.insert(name, bytes);
    }

    pub(super) fn close_total(&mut self, row: &CloseTotalRow) {
        self.closed_more = self.closed_more.saturating_add(row.count);
        let all = &mut self.bytes_more;
        all.sent = all.sent.saturating_add(row.bytes_sent);
        all.acked = all.acked.saturating_add(row.bytes_acked);
        all.received = all.received.saturating_add(row.bytes_received);
    }

    pub(super) fn mediator(&mut self, row: &MediatorRow) {
        if row.protocol == MediatorProtocol::Tcp && row.established {
            let bytes = row.bytes_sent.saturating_add(row.bytes_received);
            self.opened(row.port, 1, bytes);
        }
    }

    pub(super) fn mediator_total(&mut self, row: &MediatorTotalRow) {
        if row.protocol == MediatorProtocol::Tcp && row.established {
            let bytes = row.bytes_sent.saturating_add(row.bytes_received);
            self.opened(row.port, row.count.max(1), bytes);
        }
    }

    fn opened(&mut self, port: u16, count: u64, bytes: u64) {
        let opened = self.opened.entry(port).or_default();
        opened.established = opened.established.saturating_add(count);
        opened.bytes = opened.bytes.saturating_add(bytes);
    }

    pub(super) fn relay(&mut self, row: &RelayRow) {
        let Some(connection) = row.connection() else {
            self.nameless = self.nameless.saturating_add(1);
            if row.verdict == RelayVerdict::Forwarded {
                self.nameless_through = self.nameless_through.saturating_add(1);
            }
            return;
        };
        let connection = self.connection(connection);
        connection.served = connection.served.saturating_add(1);
        connection.up = connection.up.saturating_add(row.bytes_up);
        connection.down = connection.down.saturating_add(row.bytes_down);
        connection.own = connection.own.saturating_add(written_by_relay(row));
        if row.transport != Some(Transport::Connect) {
            let framing = row.bytes_up.saturating_mul(CHUNK_FRAMING);
            connection.framing = connection.framing.saturating_add(framing);
        }
    }

    /// Returns the mediator's connections by port, without connections that may have gone to a name
    /// server.
    pub(super) fn of_requests(&self) -> impl Iterator<Item = (&u16, &Opened)> {
        self.opened.iter().filter(|(port, _)| **port != DNS)
    }

    fn connection(&mut self, name: (u64, u64)) -> &mut Connection {
        self.connections.entry(name).or_default()
    }

    pub(super) fn count(&mut self, verdict: &str, count: u64) {
        tally::some(&mut self.verdicts, verdict.to_owned(), count);
    }

    /// Compares the command's connections in the kernel's rows and in the relay's rows.
    /// `has_witness` states whether the kernel programs of this run count bytes.
    pub(super) fn finish(self, has_witness: bool, result: &mut Reconciliation) {
        let mut missing = 0_u64;
        let mut unknown = 0_u64;
        let mut without_close = 0_u64;
        let mut up_without_close = 0_u64;
        let mut down_without_close = 0_u64;
        let mut framing = 0_u64;
        for (name, connection) in &self.connections {
            let is_known = connection.redirected || connection.proxy;
            if connection.redirected && connection.served == 0 {
                missing = missing.saturating_add(1);
            }
            if connection.served > 0 && !is_known {
                unknown = unknown.saturating_add(1);
            }
            let Some(close) = self.closes.get(name) else {
                if connection.served > 0 {
                    without_close = without_close.saturating_add(1);
                    up_without_close = up_without_close.saturating_add(connection.up);
                    down_without_close = down_without_close.saturating_add(connection.down);
                    framing = framing.saturating_add(connection.framing);
                }
                continue;
            };
            let most_down = close.received.saturating_add(IN_BUFFERS);
            if connection.up > close.sent || connection.down > most_down {
                result.disagree(Disagreement::RelayMoreThanKernel, 1);
            }
            let heads = HEAD.saturating_mul(connection.served.saturating_add(1));
            let most = connection
                .up
                .saturating_add(connection.framing)
                .saturating_add(IN_BUFFERS)
                .saturating_add(heads);
            let least_down = close
                .received
                .saturating_sub(connection.own)
                .saturating_sub(END_OF_STREAM);
            if close.acked > most || (connection.served > 0 && least_down > connection.down) {
                result.disagree(Disagreement::RelayLessThanKernel, 1);
            }
        }
        let folded = self.redirected_more.saturating_add(self.proxy_more);
        result.unseen = missing
            .saturating_add(self.redirected_more.saturating_sub(unknown))
            .saturating_sub(self.nameless);
        result.kernel = self.verdicts;
        if !has_witness {
            return;
        }
        let surplus = unknown
            .saturating_add(self.nameless_through)
            .saturating_sub(folded);
        result.disagree(Disagreement::NoKernelRow, surplus);
        let (closed_more, bytes_more) = (self.closed_more, self.bytes_more);
        let uncounted = without_close.saturating_sub(closed_more);
        result.disagree(Disagreement::NoClose, uncounted);
        let most_down = bytes_more
            .received
            .saturating_add(IN_BUFFERS.saturating_mul(closed_more));
        let is_more = up_without_close > bytes_more.sent || down_without_close > most_down;
        if uncounted == 0 && is_more {
            result.disagree(Disagreement::RelayMoreThanKernel, without_close);
        }
        let slack = IN_BUFFERS
            .saturating_mul(closed_more)
            .saturating_add(framing);
        if bytes_more.acked > up_without_close.saturating_add(slack) {
            result.disagree(Disagreement::RelayLessThanKernel, closed_more);
        }
    }
}

/// Returns the maximum number of bytes that the relay itself wrote to the command for this row.
fn written_by_relay(row: &RelayRow) -> u64 {
    if !row.is_sealed_tunnel() || row.orig_dst.is_none() {
        return u64::MAX;
    }
    if row.verdict == RelayVerdict::Forwarded {
        0
    } else {
        ALERT
    }
}
