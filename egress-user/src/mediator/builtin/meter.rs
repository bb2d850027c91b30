//! Counts bytes and tells how long nothing has moved.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Bytes of one action, both ways, and when the last one moved.
#[derive(Debug)]
pub(super) struct Meter {
    start: Instant,
    /// Milliseconds from `start` to the last movement.
    last: AtomicU64,
    bytes: AtomicU64,
}

impl Meter {
    /// A meter that has just seen a movement.
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Notes that `count` bytes moved.
    pub(super) fn moved(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.bytes.fetch_add(count, Ordering::Relaxed);
        self.touch();
    }

    /// Notes a movement that is not counted.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Ends once nothing has moved for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let due = self.start + last + limit;
            if Instant::now() >= due {
                return;
            }
            sleep_until(due).await;
        }
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}
