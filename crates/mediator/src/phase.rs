//! The phases of the mediator process: serving, draining, and cutting.
use tokio::sync::watch;

/// A phase of the mediator process. The variants are in chronological order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// New connections and requests are served.
    Serving,
    /// Nothing new is served. Activities may finish.
    Draining,
    /// All activities end now.
    Cut,
}

/// The current phase. Tasks can wait for a later phase.
#[derive(Debug, Clone)]
pub(super) struct Phases {
    receiver: watch::Receiver<Phase>,
}

impl Phases {
    /// Returns the sender of the phase, and its receiver.
    pub(super) fn new() -> (watch::Sender<Phase>, Self) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (sender, Self { receiver })
    }

    /// Completes when the mediator drains.
    pub(super) async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Completes when all activities must end.
    pub(super) async fn cut(&self) {
        self.reached(Phase::Cut).await;
    }

    async fn reached(&self, phase: Phase) {
        let mut receiver = self.receiver.clone();
        // An error means that the mediator was dropped, so this task must end too.
        if receiver.wait_for(|now| *now >= phase).await.is_err() {}
    }
}
