//! What every connection of the relay shares.
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use egress_policy::redact::Key;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::authority::{Host, Target};
use super::buffers::Buffers;
use super::limits::Limits;
use super::names::Names;
use super::orig_dst::{OriginalDestinations, SlotSource};
use super::plan::PlainHttp;
use super::pool::Pool;
use super::report::Reporter;

/// What the relay has to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the mediator listens.
    pub mediator: SocketAddr,
    /// Ports that may be asked for.
    pub allowed_ports: Vec<u16>,
    /// Whether AAAA questions are answered.
    pub ipv6: bool,
    /// How plain HTTP is asked of the mediator.
    pub plain_http: PlainHttp,
    /// Length at which the mediator may cut the body of an answer without a word.
    pub answer_cut: Option<u64>,
    /// What the built-in mediator marks its own answers with. A real Pipelock marks none.
    pub mark: Option<String>,
    /// The key of the digests that stand for queries.
    pub redaction_key: Key,
    /// Sizes and times.
    pub limits: Limits,
}

/// What every connection shares.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) config: Config,
    pub(super) reporter: Reporter,
    pub(super) destinations: OriginalDestinations,
    pub(super) pool: Pool,
    pub(super) buffers: Buffers,
    names: Mutex<Names>,
    /// Places for connections from the agent.
    pub(super) connections: Arc<Semaphore>,
    tunnels: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Relay {
    /// One that has served nobody yet; `stop` turns true when it is to stop.
    pub(super) fn new(
        config: Config,
        reporter: Reporter,
        slots: Box<dyn SlotSource>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let limits = &config.limits;
        let places = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Self {
            reporter,
            destinations: OriginalDestinations::new(slots),
            pool: Pool::new(config.mediator, limits.connect),
            buffers: Buffers::new(limits.buffers),
            names: Mutex::new(Names::new(limits.names)),
            connections: places(limits.connections),
            tunnels: places(limits.tunnels),
            stop,
            config,
        }
    }

    /// The names of the run. Never held across a wait.
    pub(super) fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns a host as the agent wrote it into what may be asked for.
    ///
    /// # Errors
    /// The reason word.
    pub(super) fn target(&self, host: Host, port: u16) -> Result<Target, &'static str> {
        match self.names().resolve(host) {
            Err(_) => Err("unknown_synthetic"),
            Ok(host) if host.is_own_machine() => Err("loopback"),
            Ok(host) => Ok(Target { host, port }),
        }
    }

    /// Whether a port may be asked for.
    pub(super) fn allows_port(&self, port: u16) -> bool {
        self.config.allowed_ports.contains(&port)
    }

    /// A place for a tunnel at the mediator; waits for one, in order. `None` when the relay is told to stop.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            place = Arc::clone(&self.tunnels).acquire_owned() => place.ok(),
            () = self.stopped() => None,
        }
    }

    /// Whether the relay was told to stop.
    pub(super) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Ends when the relay is told to stop.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.clone();
        async move {
            // An error means that the sender is gone, which is a stop too.
            if stop.wait_for(|stop| *stop).await.is_err() {}
        }
    }
}
