//! Limits the stated amount by which the system clock was set during a run, from the times of the supervisor's rows.
//!
//! Only the supervisor states the amount, and a large amount would excuse any contradiction between times. A step of
//! the clock changes the time between two rows of the supervisor, and heartbeats have a fixed interval.
use super::format::BeatEvent;
use super::format::rows::HEARTBEAT_S;

const SECOND: i128 = 1_000_000_000;
/// Time between an event and its record on a busy machine, ns.
const RECORDED_WITHIN: i128 = 15 * SECOND;
/// The system clock may drift by the elapsed time divided by this number. The stated amount includes the drift.
const MAY_DRIFT: i128 = 1_000;

/// The steps of the clock between the rows of the supervisor.
#[derive(Debug, Default)]
pub(super) struct ClockSteps {
    /// Time of the previous row, and whether it is a heartbeat.
    last: Option<(i128, bool)>,
    /// Sum of the differences between the time from row to row and the expected time, ns.
    apart: i128,
    /// Sum of the times from row to row, ns.
    passed: i128,
    /// The amount that the last row states, ns.
    stated: i128,
}

impl ClockSteps {
    /// Reads a row of the supervisor. `at` is the time of the row, if it is valid.
    pub(super) fn see(&mut self, event: Option<&BeatEvent>, at: Option<i128>) {
        let Some(at) = at else {
            return;
        };
        let is_beat = event == Some(&BeatEvent::Heartbeat);
        if let Some((before, was_beat)) = self.last {
            let passed = at.saturating_sub(before);
            let expected = if is_beat && was_beat {
                i128::from(HEARTBEAT_S).saturating_mul(SECOND)
            } else {
                0
            };
            let apart = passed.saturating_sub(expected).saturating_abs();
            self.apart = self.apart.saturating_add(apart);
            self.passed = self.passed.saturating_add(passed.saturating_abs());
        }
        self.last = Some((at, is_beat));
    }

    /// Reads the stated amount, ms.
    pub(super) fn state(&mut self, clock_set_ms: u64) {
        let stated = i128::from(clock_set_ms).saturating_mul(1_000_000);
        self.stated = self.stated.max(stated);
    }

    /// Returns the largest amount that the times of the rows allow, ns.
    pub(super) fn shown(&self) -> i128 {
        let drift = self.passed.checked_div(MAY_DRIFT).unwrap_or(0);
        let shown = self.apart.saturating_add(drift);
        shown.saturating_add(RECORDED_WITHIN)
    }

    /// Returns the stated amount, at most the amount that the times allow, ns.
    pub(super) fn set(&self) -> i128 {
        self.stated.min(self.shown())
    }

    /// Returns the same as [`Self::set`] in ms, rounded down.
    pub(super) fn set_ms(&self) -> u64 {
        let millis = self.set().checked_div(1_000_000).unwrap_or(0);
        u64::try_from(millis).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Option<&BeatEvent> = Some(&BeatEvent::Heartbeat);
    const GONE: Option<&BeatEvent> = Some(&BeatEvent::AgentGone);
    const SLACK: u64 = 15_000;

    /// Returns the amount for rows at these seconds, in ms. The last two rows are not heartbeats.
    fn set(stated: u64, seconds: &[i128]) -> u64 {
        let mut clock = ClockSteps::default();
        let (ends, beats) = seconds
            .split_last_chunk::<2>()
            .map(|(beats, ends)| (ends, beats))
            .unwrap();
        for second in beats {
            clock.see(BEAT, Some(second.saturating_mul(SECOND)));
        }
        for (event, second) in [GONE, None].into_iter().zip(ends) {
            clock.see(event, Some(second.saturating_mul(SECOND)));
        }
        clock.state(stated);
        clock.set_ms()
    }

    #[test]
    fn amount_that_the_times_show_is_accepted() {
        for (stated, seconds) in [
            (0, [0, 10, 20, 21, 22].as_slice()),
            // The clock was set back by an hour, set forward by a minute, or set after the command ended.
            (3_600_000, &[0, 10, -3_580, -3_575, -3_574]),
            (60_000, &[0, 10, 80, 81, 82]),
            (60_000, &[0, 10, 20, 21, 82]),
            (3_600_000, &[0, -3_595, -3_594]),
            // A step before the first row, or one that the rows do not show, is accepted up to the tolerance.
            (SLACK, &[0, 1, 2]),
        ] {
            assert_eq!(set(stated, seconds), stated, "{seconds:?}");
        }
    }

    #[test]
    fn amount_beyond_the_times_is_not_accepted() {
        for (seconds, most) in [
            ([0, 10, 20, 21, 22].as_slice(), SLACK + 2_022),
            (&[0, 1, 2], SLACK + 2_002),
            (&[0, 10, 80, 81, 82], SLACK + 62_082),
        ] {
            assert_eq!(set(u64::MAX, seconds), most, "{seconds:?}");
        }
        let mut clock = ClockSteps::default();
        clock.see(BEAT, None);
        clock.state(u64::MAX);
        assert_eq!(clock.set_ms(), SLACK);
    }
}
