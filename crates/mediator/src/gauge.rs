//! Counts activities, such as connections and tunnels, and waits until their number is zero.
use tokio::sync::watch;

/// The number of activities.
#[derive(Debug, Clone)]
pub(super) struct Gauge {
    count: watch::Sender<usize>,
}

/// One activity. Dropping this value ends the activity.
#[derive(Debug)]
pub(super) struct Active {
    gauge: Gauge,
}

impl Gauge {
    /// Creates a gauge without activities.
    pub(super) fn new() -> Self {
        Self {
            count: watch::channel(0).0,
        }
    }

    /// Counts an activity until the returned value is dropped.
    pub(super) fn enter(&self) -> Active {
        self.count
            .send_modify(|count| *count = count.saturating_add(1));
        Active {
            gauge: self.clone(),
        }
    }

    /// Completes when there are no activities.
    pub(super) async fn empty(&self) {
        let mut count = self.count.subscribe();
        // An error is impossible, because `self` holds the sender.
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
