//! The state that the flow log keeps about its rows, in order to fold repeats.
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;

use audit_packet::format::UnixVerdict;
use egress_common::verdict::{Hook, Reason, Verdict};

use crate::bpf::traffic::{Carried, Close, Connection};

/// Maximum number of connections that get their own row, for each side of the mediator.
const ROWS: u64 = 20_000;
/// Maximum number of distinct attempts whose repeats are folded. Each further attempt gets its own row.
pub(super) const FOLDED: usize = 65_536;

/// Key of a folded attempt. Attempts with the same key share one row with a count.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FoldKey {
    pub(super) hook: Hook,
    pub(super) verdict: Verdict,
    pub(super) reason: Reason,
    pub(super) protocol: u32,
    pub(super) addr: IpAddr,
    pub(super) port: u16,
    pub(super) comm: [u8; 16],
}

/// The attempts that share one row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Repeats {
    pub(super) count: u64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
}

impl Repeats {
    /// Counts an attempt. Returns whether the attempt is the first one with this key.
    pub(super) fn count<K: Eq + Hash>(all: &mut HashMap<K, Self>, key: K, ktime_ns: u64) -> bool {
        let seen = all.entry(key).or_insert(Self {
            count: 0,
            first_ns: ktime_ns,
            last_ns: ktime_ns,
        });
        seen.count += 1;
        seen.last_ns = ktime_ns;
        seen.count == 1
    }

    /// Removes all attempts, and returns those that were repeated, in the order of their keys.
    pub(super) fn take<K: Eq + Hash + Ord>(all: &mut HashMap<K, Self>) -> Vec<(K, Self)> {
        let mut repeated: Vec<_> = all.drain().filter(|(_, seen)| seen.count > 1).collect();
        repeated.sort_unstable();
        repeated
    }
}

/// Key of a denial by the kernel programs on the mediator's own sockets. Denials with the same key share one row with a
/// count.
pub(super) type Dial = (Hook, Verdict, Reason, u32, IpAddr, u16);

/// Denials by these kernel programs, by their key.
pub(super) type Dials = HashMap<Dial, Repeats>;

/// Uses of `AF_UNIX` addresses.
pub(super) type UnixUses = HashMap<UnixKey, Repeats>;

/// Key of a use of an `AF_UNIX` address. Uses with the same key share one row with a count.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct UnixKey {
    pub(super) hook: Hook,
    pub(super) verdict: UnixVerdict,
    pub(super) address: String,
    pub(super) comm: [u8; 16],
}

/// Answers from name servers.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The caller's own name servers, whose answers are trusted.
    pub(super) servers: Vec<IpAddr>,
    pub(super) seen: HashSet<(IpAddr, Answer)>,
}

/// A name and its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Answer {
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
}

/// The connections that share one row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) count: u64,
    pub(super) carried: Carried,
}

impl Sum {
    pub(super) fn add(&mut self, carried: Carried) {
        self.count = self.count.saturating_add(1);
        self.carried.sent = self.carried.sent.saturating_add(carried.sent);
        self.carried.acked = self.carried.acked.saturating_add(carried.acked);
        self.carried.received = self.carried.received.saturating_add(carried.received);
    }
}

/// Protocol, port, and whether the connection was established. Connections of the mediator with the same key share one
/// row.
pub(super) type SumKey = (u32, u16, bool);

/// Connections on both sides of the mediator.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) most_rows: u64,
    pub(super) closed: u64,
    /// Rows that are not written yet. The rows wait because the relay does not accept connections while its reports
    /// are not read, and a command that opens and closes connections as fast as it can must not delay the reports.
    pub(super) waiting: VecDeque<Close>,
    pub(super) closed_more: Sum,
    pub(super) mediator: u64,
    pub(super) mediator_more: BTreeMap<SumKey, Sum>,
    /// Open connections of the mediator, by time of the connect call and cookie.
    pub(super) open: BTreeMap<(u64, u64), Connection>,
}

impl Default for Witness {
    fn default() -> Self {
        Self::with(ROWS)
    }
}

impl Witness {
    pub(super) fn with(most_rows: u64) -> Self {
        Self {
            most_rows,
            closed: 0,
            waiting: VecDeque::new(),
            closed_more: Sum::default(),
            mediator: 0,
            mediator_more: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    pub(super) fn closed(&mut self, close: Close) {
        if self.closed >= self.most_rows {
            self.closed_more.add(close.carried);
        } else {
            self.closed += 1;
            self.waiting.push_back(close);
        }
    }
}
