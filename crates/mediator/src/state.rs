//! State that all requests share: the policy, the ledger, and the activities.
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

/// Limits of the mediator.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Maximum number of connections at a time. Further connections wait in the listen backlog.
    pub connections: usize,
    /// Maximum number of tunnels at a time. A further tunnel is answered with 503.
    pub tunnels: usize,
    /// Time for activities to end when the mediator stops.
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

/// Secrets of one run. The supervisor passes them only to the mediator and the relay.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// Mark of the mediator's own answers. The mediator removes the mark from answers of origins.
    pub mark: HeaderValue,
    /// Key of the digests that replace queries in receipts.
    pub redaction_key: Key,
}

/// State that all requests share.
pub struct BuiltinMediator {
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

impl BuiltinMediator {
    /// Creates a mediator that does not serve yet.
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
