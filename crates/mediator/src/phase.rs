//! What the process is about: serving, letting things end, or ending them.
use tokio::sync::watch;

/// The phases, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// New connections and requests are served.
    Serving,
    /// No new ones; what is under way may end.
    Draining,
    /// What is still under way ends now.
    Cut,
}

/// A view of the phase that tasks wait on.
#[derive(Debug, Clone)]
pub(super) struct Phases {
    receiver: watch::Receiver<Phase>,
}

impl Phases {
    /// A phase to set, and a view of it.
    pub(super) fn new() -> (watch::Sender<Phase>, Self) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (sender, Self { receiver })
    }

    /// Ends when draining has begun.
    pub(super) async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Ends when everything must end.
    pub(super) async fn cut(&self) {
        self.reached(Phase::Cut).await;
    }

    async fn reached(&self, phase: Phase) {
        let mut receiver = self.receiver.clone();
        // A sender that is gone means that nobody waits for this task any more.
        if receiver.wait_for(|now| *now >= phase).await.is_err() {}
    }
}
