//! Compares the times of two processes of one machine.
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::circumstances::Writer;

/// Reads the time of a row or a receipt, Unix ms.
pub(super) fn millis(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(unix_millis)
}

pub(super) fn unix_millis(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// The first and the last of a series of times, and how far the times go back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    /// First and last time, Unix ms.
    pub(super) range: Option<(i64, i64)>,
    pub(super) went_back: i64,
}

impl Span {
    pub(super) fn see(&mut self, now: i64) {
        let back = self.range.map_or(0, |(_, last)| last.saturating_sub(now));
        self.went_back = self.went_back.max(back);
        widen(&mut self.range, (now, now));
    }
}

/// Extends the range to include another range of times.
pub(super) fn widen(range: &mut Option<(i64, i64)>, (from, until): (i64, i64)) {
    let (first, last) = range.unwrap_or((from, until));
    *range = Some((first.min(from), last.max(until)));
}

/// How far the times of two recorders may be apart, ms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    clock_set: i64,
}

impl Tolerance {
    /// Time between an end and its record on a busy machine. The mediator has 5 s to end open requests.
    const RECORDED_WITHIN: i64 = 15_000;
    /// The amount by which the clock may be set without a record of the supervisor, in ms.
    const UNNOTICED: i64 = 100;

    /// Returns the tolerance of a run during which the system clock was set by `clock_set_ms` in total.
    pub(super) fn new(clock_set_ms: u64) -> Self {
        Self {
            clock_set: i64::try_from(clock_set_ms).unwrap_or(i64::MAX),
        }
    }

    /// Whether the range `inner` is within the range `outer`.
    pub(super) fn contains(self, outer: (i64, i64), inner: (i64, i64)) -> bool {
        self.beyond(outer, inner) == 0
    }

    /// Returns by how many seconds `inner` exceeds `outer`, or 0 within the tolerance.
    pub(super) fn beyond(self, outer: (i64, i64), inner: (i64, i64)) -> u64 {
        let before = outer.0.saturating_sub(inner.0);
        let behind = inner.1.saturating_sub(outer.1);
        let most = Self::RECORDED_WITHIN.saturating_add(self.clock_set);
        seconds_over(most, before.max(behind))
    }

    /// Whether a receipt may be earlier than the first receipt of its action by this much, in ms.
    pub(super) fn allows_back(self, millis: i64) -> bool {
        millis <= Self::UNNOTICED.saturating_add(self.clock_set)
    }

    /// Returns by how many seconds the times of receipts go back too far. The built-in mediator reads the time of a
    /// receipt under the lock that orders receipts, and Pipelock does not.
    pub(super) fn went_back(self, writer: Writer, receipts: i64, rows: i64) -> u64 {
        let most = match writer {
            Writer::Builtin => Self::UNNOTICED,
            Writer::Pipelock | Writer::OldPipelock => Self::RECORDED_WITHIN,
        };
        let most = most.saturating_add(self.clock_set.max(rows));
        seconds_over(most, receipts)
    }
}

/// Returns by how many seconds `millis` exceeds `most`, rounded up to at least 1, or 0 if it does not.
fn seconds_over(most: i64, millis: i64) -> u64 {
    if millis > most {
        u64::try_from(millis / 1000).unwrap_or(0).max(1)
    } else {
        0
    }
}
