//! Counts bytes and tells how long nothing has moved.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Marks the count of an action whose outcome has been written.
const ENDED: u64 = 1 << 63;

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

    /// Counts bytes that moved, or are about to. When it returns `false` they must not move, because the outcome of
    /// the action has been written.
    pub(super) fn moved(&self, count: usize) -> bool {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let before = self.bytes.fetch_add(count, Ordering::Relaxed);
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
        before & ENDED == 0
    }

    /// The final number of bytes: none may move any more.
    pub(super) fn end(&self) -> u64 {
        self.bytes.fetch_or(ENDED, Ordering::Relaxed) & !ENDED
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
