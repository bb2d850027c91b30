//! Collects the relay's requests to the mediator by target.
use std::collections::BTreeMap;

use super::tally;
use super::target::Target;
use super::times::{millis, widen};
use crate::format::rows::RelayRow;
use crate::format::{RelayVerdict, Transport};

/// The result of a request in the relay's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// The request and the answer ended normally.
    Through,
    /// The request did not end normally, but the mediator had allowed it: the tunnel was open, or
    /// an answer had begun that is not a denial.
    Opened,
    /// The mediator accepted a WebSocket, and then sent no more bytes than a close frame has.
    Agreed,
    /// The mediator certainly denied the request.
    Denied,
    /// The mediator answered that it received no answer from the origin. With a Pipelock, the origin may have written
    /// this answer.
    Failed,
    /// The answer looks like a denial.
    Answered,
    /// The request ended in any other way.
    Other,
}

/// Length of the longest control frame of a WebSocket. A mediator that accepts a WebSocket before it connects may send
/// a close frame if the connection fails.
const CLOSE_FRAME: u64 = 2 + 4 + 125;

/// Start of the reason of a failed request whose tunnel the mediator did not open.
const OF_MEDIATOR: &str = "mediator_";

impl Fate {
    fn of(row: &RelayRow) -> Self {
        let is_websocket = row.transport == Some(Transport::Websocket);
        let fate = Self::of_verdict(row);
        let went_through = matches!(fate, Self::Through | Self::Opened);
        if is_websocket && went_through && row.bytes_down <= CLOSE_FRAME {
            Self::Agreed
        } else {
            fate
        }
    }

    fn is_bad_gateway(row: &RelayRow) -> bool {
        let is_answer = ["upstream_failed", "mediator_502"].contains(&row.reason.as_str());
        row.status == Some(502) && is_answer
    }

    fn of_verdict(row: &RelayRow) -> Self {
        match row.verdict {
            RelayVerdict::Forwarded => Self::Through,
            RelayVerdict::Blocked => Self::Denied,
            RelayVerdict::Answered => Self::Answered,
            RelayVerdict::Failed if Self::is_bad_gateway(row) => Self::Failed,
            RelayVerdict::Failed | RelayVerdict::Unfinished => {
                let is_open = row
                    .status
                    .is_some_and(|status| (101..400).contains(&status));
                if is_open || (row.status.is_none() && row.bytes_down > 0) {
                    Self::Opened
                } else {
                    Self::Other
                }
            }
            RelayVerdict::Refused | RelayVerdict::Unknown(_) => Self::Other,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Requests {
    pub(super) fates: BTreeMap<Fate, u64>,
    /// Reasons of requests that did not end normally.
    pub(super) reasons: BTreeMap<String, u64>,
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Denials by the layer in the mediator's answer.
    pub(super) layers: BTreeMap<String, u64>,
    /// Bytes up and down of the requests that ended normally.
    pub(super) through_bytes: (u64, u64),
    /// Number of the requests that were let through and did not end normally, and their bytes up and down.
    pub(super) cut: u64,
    pub(super) cut_bytes: (u64, u64),
    pub(super) without_status: u64,
    /// Number of requests whose row shows that the mediator did not open a tunnel.
    pub(super) not_opened: u64,
    /// Number of requests that the relay dropped before the mediator ended them.
    pub(super) given_up: u64,
    /// Status, and bytes up and down, of each request that ended normally, up to a limit.
    pub(super) sizes: BTreeMap<(u16, u64, u64), u64>,
    /// Number of requests that are not in `sizes`.
    pub(super) without_size: u64,
    pub(super) bytes: u64,
    pub(super) times: Option<(i64, i64)>,
}

impl Requests {
    pub(super) fn count(&self) -> u64 {
        self.fates
            .values()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub(super) fn through(&self) -> u64 {
        [Fate::Through, Fate::Opened, Fate::Agreed]
            .into_iter()
            .fold(0, |sum, fate| sum.saturating_add(self.of(fate)))
    }

    pub(super) fn of(&self, fate: Fate) -> u64 {
        self.fates.get(&fate).copied().unwrap_or(0)
    }

    /// Adds the requests of another target. Leaves out the values that are compared only with all actions of one
    /// target.
    pub(super) fn merge(&mut self, other: &Self) {
        merge(&mut self.fates, &other.fates);
        merge(&mut self.statuses, &other.statuses);
        merge(&mut self.sizes, &other.sizes);
        self.without_size = self.without_size.saturating_add(other.without_size);
        self.without_status = self.without_status.saturating_add(other.without_status);
        self.not_opened = self.not_opened.saturating_add(other.not_opened);
        self.given_up = self.given_up.saturating_add(other.given_up);
        self.bytes = self.bytes.saturating_add(other.bytes);
        if let Some(times) = other.times {
            widen(&mut self.times, times);
        }
    }

    fn add(&mut self, row: &RelayRow) {
        let fate = Fate::of(row);
        tally::one(&mut self.fates, fate);
        let size = (row.bytes_up, row.bytes_down);
        let is_whole = row.verdict == RelayVerdict::Forwarded;
        if is_whole {
            self.through_bytes = sum(self.through_bytes, size);
        } else {
            tally::one(&mut self.reasons, reason(row));
        }
        if !is_whole && matches!(fate, Fate::Opened | Fate::Agreed) {
            self.cut = self.cut.saturating_add(1);
            self.cut_bytes = sum(self.cut_bytes, size);
        }
        let size = (row.status.unwrap_or(0), row.bytes_up, row.bytes_down);
        let is_kept = is_whole && tally::size(&mut self.sizes, size);
        self.without_size = self.without_size.saturating_add(u64::from(!is_kept));
        if row.verdict == RelayVerdict::Blocked
            && let Some((layer, _)) = row.reason.split_once(':')
        {
            tally::one(&mut self.layers, layer.to_owned());
        }
        // The status in the row of an open tunnel may be that of the origin.
        let is_closed = match row.verdict {
            RelayVerdict::Blocked => true,
            RelayVerdict::Failed => row.reason.starts_with(OF_MEDIATOR),
            RelayVerdict::Forwarded
            | RelayVerdict::Refused
            | RelayVerdict::Answered
            | RelayVerdict::Unfinished
            | RelayVerdict::Unknown(_) => false,
        };
        self.not_opened = self.not_opened.saturating_add(u64::from(is_closed));
        let is_given_up = match row.verdict {
            RelayVerdict::Unfinished => true,
            RelayVerdict::Failed => row.status.is_none(),
            RelayVerdict::Forwarded
            | RelayVerdict::Refused
            | RelayVerdict::Blocked
            | RelayVerdict::Answered
            | RelayVerdict::Unknown(_) => false,
        };
        self.given_up = self.given_up.saturating_add(u64::from(is_given_up));
        match row.status {
            Some(status) => tally::one(&mut self.statuses, status),
            None => self.without_status = self.without_status.saturating_add(1),
        }
        self.bytes = self
            .bytes
            .saturating_add(row.bytes_up)
            .saturating_add(row.bytes_down);
        if let Some(end) = millis(&row.ts) {
            let lasted = i64::try_from(row.duration_us / 1000).unwrap_or(i64::MAX);
            let start = end.saturating_sub(lasted);
            widen(&mut self.times, (start, end));
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) requests: BTreeMap<Target, Requests>,
    /// Requests with an unreadable target, by transport.
    pub(super) nameless: BTreeMap<String, Requests>,
    pub(super) count: u64,
    /// Connections that the relay denied without a request to the mediator, by reason.
    pub(super) refused: BTreeMap<String, u64>,
}

impl Asked {
    /// Returns the number of requests that neither went through nor were certainly denied.
    pub(super) fn not_through(&self) -> u64 {
        let all = self.requests.values().chain(self.nameless.values());
        all.fold(0_u64, |sum, requests| {
            sum.saturating_add(requests.of(Fate::Other))
                .saturating_add(requests.of(Fate::Failed))
                .saturating_add(requests.of(Fate::Opened))
                .saturating_add(requests.of(Fate::Answered))
                .saturating_add(requests.of(Fate::Agreed))
        })
    }

    pub(super) fn see(&mut self, row: &RelayRow) {
        let Some(transport) = row.asked().filter(|text| !text.is_empty()) else {
            tally::one(&mut self.refused, reason(row));
            return;
        };
        self.count = self.count.saturating_add(1);
        let target = Target::of_row(
            transport,
            row.target.as_deref(),
            row.host.as_deref(),
            row.port,
        );
        let requests = match target {
            Some(target) => self.requests.entry(target).or_default(),
            None => self.nameless.entry(transport.to_owned()).or_default(),
        };
        requests.add(row);
    }
}

fn sum(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0.saturating_add(other.0), one.1.saturating_add(other.1))
}

fn merge<K: Ord + Clone>(counts: &mut BTreeMap<K, u64>, others: &BTreeMap<K, u64>) {
    for (key, count) in others {
        tally::some(counts, key.clone(), *count);
    }
}

/// Returns the reason and the status of a request that did not go through.
fn reason(row: &RelayRow) -> String {
    match (row.reason.as_str(), row.status) {
        ("", Some(status)) => format!("status {status}"),
        (reason, Some(status)) => format!("{reason}, status {status}"),
        (reason, None) => reason.to_owned(),
    }
}
