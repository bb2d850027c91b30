//! When things happened, by the clocks of two processes of one machine.

/// How far the times of two recorders may lie apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance(i64);

impl Tolerance {
    /// What a busy machine may take between an end and its record, s. The mediator has 5 s to end what is open.
    const RECORDED_WITHIN: i64 = 15;

    /// The tolerance of a run during which the system clock was set by `clock_set_ms` in all.
    pub(super) fn new(clock_set_ms: u64) -> Self {
        let set = i64::try_from(clock_set_ms / 1000).unwrap_or(i64::MAX);
        Self(set.saturating_add(Self::RECORDED_WITHIN))
    }

    /// Whether the times of `inner`, first and last, lie within those of `outer`.
    pub(super) fn contains(self, outer: (i64, i64), inner: (i64, i64)) -> bool {
        self.beyond(outer, inner) == 0
    }

    /// Seconds by which `inner` reaches out of `outer`; 0 within the tolerance.
    pub(super) fn beyond(self, outer: (i64, i64), inner: (i64, i64)) -> u64 {
        let before = outer.0.saturating_sub(inner.0);
        let behind = inner.1.saturating_sub(outer.1);
        self.excess(before.max(behind))
    }

    /// `seconds`, if they are more than may be; else 0.
    pub(super) fn excess(self, seconds: i64) -> u64 {
        if seconds > self.0 {
            u64::try_from(seconds).unwrap_or(0)
        } else {
            0
        }
    }
}
