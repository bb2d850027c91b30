//! Keeps connections to the mediator warm.
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::body::Upload;

/// Idle connections kept; a burst of more dials.
const KEPT: usize = 64;

/// How long a connection may wait: less than any server's idle timeout, so that a request hardly
/// ever meets a connection that the mediator is closing.
const FRESH: Duration = Duration::from_secs(4);

/// The connections to the mediator that wait for a request.
#[derive(Debug)]
pub(super) struct Pool {
    mediator: SocketAddr,
    patience: Duration,
    idle: Mutex<Vec<(SendRequest<Upload>, Instant)>>,
}

impl Pool {
    pub(super) fn new(mediator: SocketAddr, patience: Duration) -> Self {
        Self {
            mediator,
            patience,
            idle: Mutex::default(),
        }
    }

    /// The mediator's address, which is the Host of its own paths.
    pub(super) fn mediator(&self) -> SocketAddr {
        self.mediator
    }

    /// A new connection to the mediator, outside the pool.
    pub(super) async fn dial(&self) -> io::Result<TcpStream> {
        let stream = timeout(self.patience, TcpStream::connect(self.mediator)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A new connection for one request after another.
    pub(super) async fn fresh(&self) -> io::Result<SendRequest<Upload>> {
        let stream = self.dial().await?;
        let (sender, connection) = client()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(async move {
            if connection.await.is_err() {
                // Whoever waits for an answer hears of it.
            }
        });
        Ok(sender)
    }

    /// A connection that waits and is still good.
    pub(super) fn take(&self) -> Option<SendRequest<Upload>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((sender, since)) = idle.pop() {
            if since.elapsed() > FRESH {
                // The rest has waited longer still.
                idle.clear();
                return None;
            }
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    /// Keeps a connection whose last answer has been read to its end.
    pub(super) fn put(&self, sender: SendRequest<Upload>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT && !sender.is_closed() {
            idle.push((sender, Instant::now()));
        }
    }
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
