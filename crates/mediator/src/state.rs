//! What every request is answered with: the policy, the ledger, and what is under way.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use egress_policy::Policy;
use egress_policy::redact::Key;
use egress_sys::routes::Routes;
use http::header::HeaderValue;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::gauge::Gauge;
use super::phase::{Phase, Phases};
use super::recorder::Ledger;
use super::resolve::Resolve;

/// How much is served at a time.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Connections; more wait in the listener's queue.
    pub connections: usize,
    /// Tunnels; one more is answered 503.
    pub tunnels: usize,
    /// What is under way at a stop may take this long to end.
    pub drain: Duration,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            connections: 4096,
            tunnels: 1024,
            drain: Duration::from_secs(2),
        }
    }
}

/// What only the mediator and the relay of a run know.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// Stands in every answer that the mediator gives itself, and in no origin's.
    pub mark: HeaderValue,
    /// The key of the digests that stand for queries.
    pub redaction_key: Key,
}

/// Everything that requests are answered with.
pub struct Mediator {
    pub(super) policy: Policy,
    pub(super) ledger: Arc<Ledger>,
    pub(super) resolver: Box<dyn Resolve>,
    pub(super) routes: Routes,
    pub(super) secrets: Secrets,
    pub(super) phases: Phases,
    pub(super) gauge: Gauge,
    pub(super) tunnels: Arc<Semaphore>,
    pub(super) websockets: Arc<Semaphore>,
    pub(super) started: Instant,
    pub(super) connections: Arc<Semaphore>,
    pub(super) capacity: Capacity,
    pub(super) heartbeat: Duration,
    pub(super) phase: watch::Sender<Phase>,
    requests: AtomicU64,
}

impl Mediator {
    /// A mediator that has not served anybody yet.
    pub fn new(
        policy: Policy,
        ledger: Arc<Ledger>,
        resolver: Box<dyn Resolve>,
        routes: Routes,
        secrets: Secrets,
        capacity: Capacity,
        heartbeat: Duration,
    ) -> Arc<Self> {
        let (phase, phases) = Phases::new();
        Arc::new(Self {
            tunnels: Arc::new(Semaphore::new(capacity.tunnels)),
            websockets: Arc::new(Semaphore::new(policy.websocket.max_concurrent.min(1 << 16))),
            connections: Arc::new(Semaphore::new(capacity.connections)),
            policy,
            ledger,
            resolver,
            routes,
            secrets,
            phases,
            gauge: Gauge::new(),
            started: Instant::now(),
            capacity,
            heartbeat,
            phase,
            requests: AtomicU64::new(0),
        })
    }

    pub(super) fn next_request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("req-{}", number.saturating_add(1))
    }
}
