//! Keeps connections to the mediator warm.
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use egress_http::read_on::ReadOn;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::upload::Upload;

/// Idle connections kept; a burst of more dials.
const KEPT: usize = 64;

/// How long a connection may wait: less than any server's idle timeout, so that a request hardly
/// ever meets a connection that the mediator is closing.
const FRESH: Duration = Duration::from_secs(4);

/// Connections dialled ahead, and how long one waits to be used. Dialling is a good part of what a
/// short tunnel costs, and this takes it out of the client's way.
const SPARES: usize = 4;
const SPARE_FRESH: Duration = Duration::from_secs(2);

/// One connection to the mediator that speaks HTTP. Dropping it closes the connection, whatever is under way on it:
/// an upload must not go on when nobody counts it any more.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) sender: SendRequest<Upload>,
    task: Option<AbortHandle>,
}

impl Link {
    /// Speaks HTTP over `stream`, and holds `place` until the connection has ended.
    pub(super) async fn over(
        stream: TcpStream,
        place: Option<OwnedSemaphorePermit>,
    ) -> hyper::Result<Self> {
        let (sender, connection) = client()
            .handshake(TokioIo::new(ReadOn::new(stream)))
            .await?;
        let task = tokio::spawn(async move {
            if connection.await.is_err() {
                // Whoever waits for an answer hears of it.
            }
            drop(place);
        });
        Ok(Self {
            sender,
            task: Some(task.abort_handle()),
        })
    }

    /// Lets the connection end by itself: what was counted may still be on its way.
    pub(super) fn detach(mut self) {
        self.task = None;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The connections to the mediator that wait for a request.
#[derive(Debug, Clone)]
pub(super) struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mediator: SocketAddr,
    patience: Duration,
    idle: Mutex<Vec<(Link, Instant)>>,
    spares: Mutex<Spares>,
}

#[derive(Debug, Default)]
struct Spares {
    ready: Vec<(TcpStream, Instant)>,
    dialling: usize,
}

impl Pool {
    pub(super) fn new(mediator: SocketAddr, patience: Duration) -> Self {
        Self(Arc::new(Inner {
            mediator,
            patience,
            idle: Mutex::default(),
            spares: Mutex::default(),
        }))
    }

    /// The mediator's address, which is the Host of its own paths.
    pub(super) fn mediator(&self) -> SocketAddr {
        self.0.mediator
    }

    /// A connection to the mediator that nothing was sent on.
    pub(super) async fn dial(&self) -> io::Result<TcpStream> {
        let spare = self.take_spare();
        self.dial_ahead();
        match spare {
            Some(stream) => Ok(stream),
            None => self.0.dial().await,
        }
    }

    /// Closes what has waited too long, for ever.
    pub(super) async fn tend(&self) {
        loop {
            sleep(Duration::from_secs(1)).await;
            let stale = |since: &Instant| since.elapsed() > SPARE_FRESH;
            lock(&self.0.spares)
                .ready
                .retain(|(_, since)| !stale(since));
            lock(&self.0.idle).retain(|(_, since)| since.elapsed() <= FRESH);
        }
    }

    fn take_spare(&self) -> Option<TcpStream> {
        let mut spares = lock(&self.0.spares);
        while let Some((stream, since)) = spares.ready.pop() {
            // Readable means closed: nothing was asked, so there is nothing to answer.
            let unread = stream.try_read(&mut [0]);
            let is_open = unread.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            if is_open && since.elapsed() <= SPARE_FRESH {
                return Some(stream);
            }
        }
        None
    }

    /// Sees to it that the next connection is dialled already.
    fn dial_ahead(&self) {
        let mut spares = lock(&self.0.spares);
        if spares.ready.len() + spares.dialling >= SPARES {
            return;
        }
        spares.dialling += 1;
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let dialled = inner.dial().await;
            let mut spares = lock(&inner.spares);
            spares.dialling -= 1;
            if let Ok(stream) = dialled {
                spares.ready.push((stream, Instant::now()));
            }
        });
    }

    /// A new connection for one request after another.
    pub(super) async fn fresh(&self) -> io::Result<Link> {
        let stream = self.dial().await?;
        Link::over(stream, None).await.map_err(io::Error::other)
    }

    /// A connection that waits and is still good.
    pub(super) fn take(&self) -> Option<Link> {
        let mut idle = lock(&self.0.idle);
        while let Some((link, since)) = idle.pop() {
            if since.elapsed() > FRESH {
                // The rest has waited longer still.
                idle.clear();
                return None;
            }
            if link.sender.is_ready() {
                return Some(link);
            }
        }
        None
    }

    /// Keeps a connection whose last answer has been read to its end.
    pub(super) fn put(&self, link: Link) {
        let mut idle = lock(&self.0.idle);
        if idle.len() < KEPT && !link.sender.is_closed() {
            idle.push((link, Instant::now()));
        } else {
            link.detach();
        }
    }
}

impl Inner {
    async fn dial(&self) -> io::Result<TcpStream> {
        let stream = timeout(self.patience, TcpStream::connect(self.mediator)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Most bytes that hyper holds of an answer, one connection: with thousands of agents' connections
/// that nobody reads, its own default would be gigabytes.
const READ_AHEAD: usize = 64 * 1024;

/// How the relay speaks HTTP to the mediator.
pub(super) fn client() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(READ_AHEAD);
    builder
}
