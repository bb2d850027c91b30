//! Detects whether the system clock is set during a run, by comparing it with the monotonic clock, which no program can
//! set.
//!
//! Deadlines use the monotonic clock. Times in records and of files come from the system clock. A step of the system
//! clock is reported, and the run records how far the clock was set back, because a file may look that much older than
//! it is.
use std::time::Duration;

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};

/// Nanoseconds by which the two clocks may drift apart between two readings, in addition to [`MAY_DRIFT`].
const MAY_PART: i64 = 100_000_000;
/// The system clock may drift by the elapsed time divided by this number. adjtimex(2) allows half of this drift.
const MAY_DRIFT: i64 = 1000;
/// Maximum number of nanoseconds for reading both clocks. A slower reading was interrupted, and is not used.
const AT_ONCE: i64 = 1_000_000;

/// Both clocks at one time, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    wall: i64,
    since_boot: i64,
}

impl Reading {
    fn now() -> Option<Self> {
        let read = |clock| clock_gettime(clock).ok().map(|time| time.num_nanoseconds());
        let before = read(ClockId::CLOCK_BOOTTIME)?;
        let wall = read(ClockId::CLOCK_REALTIME)?;
        let since_boot = read(ClockId::CLOCK_BOOTTIME)?;
        (since_boot.saturating_sub(before) < AT_ONCE).then_some(Self { wall, since_boot })
    }

    fn offset(self) -> i64 {
        self.wall.saturating_sub(self.since_boot)
    }
}

/// The changes of the system clock since the run began.
#[derive(Debug, Clone, Default)]
pub(super) struct WallClock {
    last: Option<Reading>,
    first: i64,
    least: i64,
    most: i64,
    steps: u64,
    /// The longest step of the clock. The number is negative if the clock was set back.
    longest: i64,
}

impl WallClock {
    /// Reads both clocks for the first time.
    pub(super) fn start() -> Self {
        let mut clock = Self::default();
        clock.read();
        clock
    }

    /// Reads both clocks.
    pub(super) fn read(&mut self) {
        if let Some(reading) = Reading::now() {
            self.add(reading);
        }
    }

    fn add(&mut self, reading: Reading) {
        let offset = reading.offset();
        match self.last.replace(reading) {
            None => (self.first, self.least, self.most) = (offset, offset, offset),
            Some(last) => {
                let parted = offset.saturating_sub(last.offset());
                let passed = reading.since_boot.saturating_sub(last.since_boot);
                if parted.saturating_abs() > MAY_PART.saturating_add(passed / MAY_DRIFT) {
                    self.steps += 1;
                    if parted.saturating_abs() > self.longest.saturating_abs() {
                        self.longest = parted;
                    }
                }
                self.least = self.least.min(offset);
                self.most = self.most.max(offset);
            }
        }
    }

    /// Returns the duration by which the clock was set back, compared with its first setting. A file that changed
    /// during the run may therefore have a time that is earlier than the start of the run by this duration.
    pub(super) fn set_back(&self) -> Duration {
        let back = self.first.saturating_sub(self.least);
        Duration::from_nanos(u64::try_from(back).unwrap_or(0))
    }

    /// Returns the distance between the clock's earliest and latest settings. Two times of one run may differ by this
    /// much even if they were taken at the same moment.
    pub(super) fn set_by(&self) -> Duration {
        let apart = self.most.saturating_sub(self.least);
        Duration::from_nanos(u64::try_from(apart).unwrap_or(0))
    }

    /// Returns a notice if the clock was set.
    pub(super) fn notice(&self) -> Option<String> {
        let by = Duration::from_nanos(self.longest.unsigned_abs());
        let way = if self.longest < 0 { "back" } else { "forward" };
        (self.steps > 0).then(|| {
            format!(
                "the system clock was set during the run ({} times, {way} by {:.3} s at most), so times in the records may be out of order",
                self.steps,
                by.as_secs_f64()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// Returns a clock that was read at these times: seconds since boot, and nanoseconds by which the clock is fast.
    fn seen(looks: &[(i64, i64)]) -> WallClock {
        let mut clock = WallClock::default();
        for (second, ahead) in looks {
            let since_boot = second * SECOND;
            clock.add(Reading {
                wall: since_boot + 1_700_000_000 * SECOND + ahead,
                since_boot,
            });
        }
        clock
    }

    #[test]
    fn clock_that_is_not_set_changes_nothing() {
        assert_eq!(seen(&[]).notice(), None);
        // This clock is as slow as adjtimex(2) allows, for a day with a reading every hour.
        let day: Vec<(i64, i64)> = (0..24)
            .map(|hour| (hour * 3600, hour * -1_800_000_000))
            .collect();
        let slow = seen(&day);
        assert_eq!(slow.notice(), None);
        assert_eq!(slow.set_back(), Duration::from_millis(23 * 1800));
        let mut real = WallClock::start();
        real.read();
        assert_eq!(real.notice(), None);
        assert!(real.set_back() < Duration::from_millis(2), "{real:?}");
    }

    /// Claims: clock-set-back
    #[test]
    fn step_back_is_reported_even_if_it_was_undone() {
        let back = seen(&[(1, 0), (2, -3600 * SECOND), (3, -3600 * SECOND)]);
        assert_eq!(back.set_back(), Duration::from_hours(1));
        assert_eq!(back.set_by(), Duration::from_hours(1));
        assert!(
            back.notice()
                .unwrap()
                .contains("1 times, back by 3600.000 s"),
            "{back:?}"
        );
        let undone = seen(&[(1, 0), (2, -60 * SECOND), (3, 1)]);
        assert_eq!(undone.set_back(), Duration::from_mins(1));
        assert!(undone.notice().unwrap().contains("2 times"), "{undone:?}");
    }

    #[test]
    fn step_forward_makes_nothing_look_older() {
        let forward = seen(&[(1, 0), (2, 5 * SECOND)]);
        assert_eq!(forward.set_back(), Duration::ZERO);
        assert_eq!(forward.set_by(), Duration::from_secs(5));
        assert!(
            forward.notice().unwrap().contains("forward by 5.000 s"),
            "{forward:?}"
        );
    }
}
