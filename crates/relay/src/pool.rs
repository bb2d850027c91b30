//! Keeps idle connections to the mediator for reuse, and opens some in advance.
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

/// Maximum number of idle connections that are kept.
const KEPT: usize = 64;

/// Maximum idle time of a connection. This time is shorter than the idle timeout of a mediator, so that a request
/// rarely meets a connection that the mediator is closing.
const FRESH: Duration = Duration::from_secs(4);

/// Number of connections that are opened in advance, and the time for which each is kept. Opening a connection is a
/// large part of the cost of a short tunnel. With a spare connection, the client does not wait until a connection is
/// open.
const SPARES: usize = 4;
const SPARE_FRESH: Duration = Duration::from_secs(2);

/// One HTTP connection to the mediator. Dropping the link closes the connection even during an exchange, because an
/// upload must not continue when its bytes are no longer counted.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) sender: SendRequest<Upload>,
    task: Option<AbortHandle>,
}

impl Link {
    /// Starts HTTP on `stream`, and holds `place` until the connection has ended.
    pub(super) async fn over(
        stream: TcpStream,
        place: Option<OwnedSemaphorePermit>,
    ) -> hyper::Result<Self> {
        let (sender, connection) = client()
            .handshake(TokioIo::new(ReadOn::new(stream)))
            .await?;
        let task = tokio::spawn(async move {
            if connection.await.is_err() {
                // The sender of a pending request receives the error.
            }
            drop(place);
        });
        Ok(Self {
            sender,
            task: Some(task.abort_handle()),
        })
    }

    /// Lets the connection's task finish instead of aborting it, because bytes that were counted may still be in its
    /// buffers.
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

/// The idle connections to the mediator.
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

    /// Returns the mediator's address. Requests to the mediator's own paths also have this address in the Host field.
    pub(super) fn mediator(&self) -> SocketAddr {
        self.0.mediator
    }

    /// Returns an unused connection to the mediator.
    pub(super) async fn dial(&self) -> io::Result<TcpStream> {
        let spare = self.take_spare();
        self.dial_ahead();
        match spare {
            Some(stream) => Ok(stream),
            None => self.0.dial().await,
        }
    }

    /// Closes connections that were idle for too long. Runs until the future is dropped.
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
            // On an open connection, there is nothing to read, because no request was sent. If the socket is readable,
            // the mediator has closed the connection.
            let unread = stream.try_read(&mut [0]);
            let is_open = unread.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            if is_open && since.elapsed() <= SPARE_FRESH {
                return Some(stream);
            }
        }
        None
    }

    /// Opens a connection in advance, unless enough spare connections exist.
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

    /// Returns a new HTTP connection.
    pub(super) async fn fresh(&self) -> io::Result<Link> {
        let stream = self.dial().await?;
        Link::over(stream, None).await.map_err(io::Error::other)
    }

    /// Returns an idle connection that can still be used.
    pub(super) fn take(&self) -> Option<Link> {
        let mut idle = lock(&self.0.idle);
        while let Some((link, since)) = idle.pop() {
            if since.elapsed() > FRESH {
                // The remaining connections have been idle at least as long.
                idle.clear();
                return None;
            }
            if link.sender.is_ready() {
                return Some(link);
            }
        }
        None
    }

    /// Keeps a connection for reuse. The last answer on the connection must have been read
    /// completely.
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

/// Maximum number of bytes of an answer that hyper buffers per connection. With thousands of connections that the
/// command does not read, hyper's default would need gigabytes.
const READ_AHEAD: usize = 64 * 1024;

/// Returns the HTTP client settings for the mediator.
pub(super) fn client() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(READ_AHEAD);
    builder
}
