//! State that all connections of the relay share.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::authority::{Host, Target};
use super::buffers::Buffers;
use super::names::Names;
use super::orig_dst::{OriginalDestinations, SlotSource};
use super::plan::Config;
use super::pool::Pool;
use super::report::Reporter;

/// State that all connections share.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) config: Config,
    pub(super) reporter: Reporter,
    pub(super) destinations: OriginalDestinations,
    pub(super) pool: Pool,
    pub(super) buffers: Buffers,
    names: Mutex<Names>,
    /// Permits for connections from the command.
    pub(super) connections: Arc<Semaphore>,
    tunnels: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Relay {
    /// Creates the state. `stop` becomes true when the relay must stop.
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

    /// Locks the table of names. The guard must not be held across an `await`.
    pub(super) fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the destination for a host from the command, with the name in place of a synthetic address.
    ///
    /// # Errors
    /// Returns the reason word: `unknown_synthetic` if the address is not assigned, or `loopback`
    /// if the host is this machine.
    pub(super) fn target(&self, host: Host, port: u16) -> Result<Target, &'static str> {
        match self.names().resolve(host) {
            Err(_) => Err("unknown_synthetic"),
            Ok(host) if host.is_own_machine() => Err("loopback"),
            Ok(host) => Ok(Target { host, port }),
        }
    }

    /// Returns whether the command may connect to the port.
    pub(super) fn allows_port(&self, port: u16) -> bool {
        self.config.allowed_ports.contains(&port)
    }

    /// Waits for a free place for a tunnel at the mediator. Waiting tunnels get places in the order
    /// of their calls. Returns `None` if the relay stops first.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            place = Arc::clone(&self.tunnels).acquire_owned() => place.ok(),
            () = self.stopped() => None,
        }
    }

    /// Returns whether the relay is stopping.
    pub(super) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Completes when the relay must stop.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.clone();
        async move {
            // An error means that the sender was dropped. A dropped sender also stops the relay.
            if stop.wait_for(|stop| *stop).await.is_err() {}
        }
    }
}
