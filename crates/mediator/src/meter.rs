//! Counts bytes and measures idle time.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Flag in the count of an action whose outcome was written.
const ENDED: u64 = 1 << 63;

/// The bytes of one action in both directions, and the time of the last byte.
#[derive(Debug)]
pub(super) struct Meter {
    start: Instant,
    /// Milliseconds from `start` to the last movement.
    last: AtomicU64,
    bytes: AtomicU64,
}

impl Meter {
    /// Creates a meter whose idle time starts now.
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Counts bytes before or after they move. Returns false if the outcome of the action was
    /// already written. Bytes that have not moved by then must not be moved.
    pub(super) fn moved(&self, count: usize) -> bool {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let before = self.bytes.fetch_add(count, Ordering::Relaxed);
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
        before & ENDED == 0
    }

    /// Returns the final number of bytes. After this call, no more bytes may move.
    pub(super) fn end(&self) -> u64 {
        self.bytes.fetch_or(ENDED, Ordering::Relaxed) & !ENDED
    }

    /// Completes when no byte has moved for `limit`.
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
