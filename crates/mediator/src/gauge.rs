//! Counts what is under way, and tells when nothing is.
use tokio::sync::watch;

/// A count that can be waited on.
#[derive(Debug, Clone)]
pub(super) struct Gauge {
    count: watch::Sender<usize>,
}

/// One thing under way; gone when dropped.
#[derive(Debug)]
pub(super) struct Active {
    gauge: Gauge,
}

impl Gauge {
    /// Nothing is under way.
    pub(super) fn new() -> Self {
        Self {
            count: watch::channel(0).0,
        }
    }

    /// One more is under way.
    pub(super) fn enter(&self) -> Active {
        self.count
            .send_modify(|count| *count = count.saturating_add(1));
        Active {
            gauge: self.clone(),
        }
    }

    /// Ends when nothing is under way.
    pub(super) async fn empty(&self) {
        let mut count = self.count.subscribe();
        // The sender lives in `self`.
        if count.wait_for(|count| *count == 0).await.is_err() {}
    }
}

impl Default for Gauge {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.gauge
            .count
            .send_modify(|count| *count = count.saturating_sub(1));
    }
}
