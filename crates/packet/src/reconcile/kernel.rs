//! The kernel's side: the command's connections by cookie, and what the mediator's own sockets did.
use std::collections::BTreeMap;

use super::disagreement::Disagreement;
use super::result::Reconciliation;
use super::tally;
use crate::format::rows::{
    AttemptRow, CloseRow, CloseTotalRow, MediatorRow, MediatorTotalRow, RelayRow, RepeatsRow,
};
use crate::format::{KernelVerdict, MediatorProtocol, RelayVerdict, Transport};

/// What may sit unread in the buffers of one connection, or in a process that carries it. `tcp_rmem` allows 6 MiB unless
/// a machine was tuned.
pub(super) const IN_BUFFERS: u64 = 16 << 20;
/// What the head of a request, and the framing of its body, may take beside the body.
const HEAD: u64 = 128 << 10;
/// Bytes around a chunk of one byte: its size, and two line ends.
const CHUNK_FRAMING: u64 = 5;
/// The port of name servers, to which the mediator also connects without a request.
pub(super) const DNS: u16 = 53;

/// Which rows there are of a connection of the command.
#[derive(Debug, Default)]
struct Connection {
    /// The kernel's: that it was redirected.
    redirected: bool,
    /// The kernel's: that it went to the explicit proxy.
    proxy: bool,
    /// The relay's.
    served: u64,
    /// Bytes from the command in the relay's rows.
    up: u64,
    /// What framed the bodies among them: a chunk of one byte takes five more.
    framing: u64,
}

/// The connections of the mediator to one port.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Opened {
    pub(super) established: u64,
    pub(super) bytes: u64,
}

/// Bytes from the command, as the kernel counted them.
#[derive(Debug, Clone, Copy, Default)]
struct Bytes {
    sent: u64,
    acked: u64,
}

/// The kernel's rows as they pass by.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    /// By cookie and time. Either row may come first.
    connections: BTreeMap<(u64, u64), Connection>,
    /// Their bytes at their ends, by the same.
    closes: BTreeMap<(u64, u64), Bytes>,
    /// Connections to the relay that the log has as a number alone.
    redirected_more: u64,
    proxy_more: u64,
    /// Connections whose close the log has in a sum, and their bytes.
    closed_more: u64,
    bytes_more: Bytes,
    /// Bytes from the command in the relay's rows of connections that have no close of their own.
    verdicts: BTreeMap<String, u64>,
    /// Connections that the relay took and could not tell whose they were.
    nameless: u64,
    /// Of them, those that went through.
    nameless_through: u64,
    /// The mediator's connections by port.
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

    /// The first of them is a row by itself.
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
        };
        self.closes.insert(name, bytes);
    }

    pub(super) fn close_total(&mut self, row: &CloseTotalRow) {
        self.closed_more = self.closed_more.saturating_add(row.count);
        let all = &mut self.bytes_more;
        all.sent = all.sent.saturating_add(row.bytes_sent);
        all.acked = all.acked.saturating_add(row.bytes_acked);
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
        if row.transport != Some(Transport::Connect) {
            let framing = row.bytes_up.saturating_mul(CHUNK_FRAMING);
            connection.framing = connection.framing.saturating_add(framing);
        }
    }

    /// The mediator's connections by port, those apart that may have gone to a name server.
    pub(super) fn of_requests(&self) -> impl Iterator<Item = (&u16, &Opened)> {
        self.opened.iter().filter(|(port, _)| **port != DNS)
    }

    fn connection(&mut self, name: (u64, u64)) -> &mut Connection {
        self.connections.entry(name).or_default()
    }

    /// Counts attempts by the word of their verdict.
    pub(super) fn count(&mut self, verdict: &str, count: u64) {
        tally::some(&mut self.verdicts, verdict.to_owned(), count);
    }

    /// Compares the command's connections in the kernel's rows and in the relay's. `has_witness`: the kernel programs
    /// of this run count bytes.
    pub(super) fn finish(self, has_witness: bool, result: &mut Reconciliation) {
        let mut missing = 0_u64;
        let mut unknown = 0_u64;
        let mut without_close = 0_u64;
        let mut up_without_close = 0_u64;
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
                    framing = framing.saturating_add(connection.framing);
                }
                continue;
            };
            if connection.up > close.sent {
                result.disagree(Disagreement::RelayMoreThanKernel, 1);
            }
            let heads = HEAD.saturating_mul(connection.served.saturating_add(1));
            let most = connection
                .up
                .saturating_add(connection.framing)
                .saturating_add(IN_BUFFERS)
                .saturating_add(heads);
            if close.acked > most {
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
        if uncounted == 0 && up_without_close > bytes_more.sent {
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
