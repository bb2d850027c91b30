//! All servers of the world. The servers run in one thread in the `internet` namespace.
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime;
use tokio::sync::oneshot;

use crate::namespaces::Namespaces;
use crate::topology::{Families, INTERNET};

use self::http::Site;
use self::journal::Journal;
use self::tls::Authority;

pub(crate) mod dns;
mod git;
pub(crate) mod http;
pub(crate) mod journal;
pub(crate) mod raw;
pub(crate) mod response;
pub(crate) mod sinks;
pub(crate) mod tls;
mod websocket;

/// Ports of the plain HTTP servers.
const HTTP: [u16; 2] = [80, 8080];
/// Ports of the HTTPS servers.
const HTTPS: [u16; 2] = [443, 8443];

/// The running servers. Dropping the value ends the servers.
#[derive(Debug)]
pub(crate) struct Internet {
    /// The records of the servers.
    pub(crate) journal: Arc<Journal>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Internet {
    /// Starts all servers, and returns when all of them listen.
    pub(crate) fn start(
        namespace: Arc<Namespaces>,
        families: Families,
        authority: Authority,
        files: PathBuf,
    ) -> io::Result<Self> {
        let journal = Arc::new(Journal::default());
        let (ready, is_ready) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let site = Site {
            journal: Arc::clone(&journal),
            files,
        };
        let thread = thread::Builder::new()
            .name("internet".to_owned())
            .spawn(move || {
                if let Err(error) = serve(&namespace, families, &authority, &site, &ready, stopped)
                {
                    // Nobody receives the error if the world is being removed.
                    drop(ready.send(Err(error)));
                }
            })?;
        let internet = Self {
            journal,
            stop: Some(stop),
            thread: Some(thread),
        };
        is_ready
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the servers ended before they listened")))?;
        Ok(internet)
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // If the servers panic, the requests of the test fail.
            drop(thread.join());
        }
    }
}

fn serve(
    namespace: &Namespaces,
    families: Families,
    authority: &Authority,
    site: &Site,
    ready: &mpsc::Sender<io::Result<()>>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    namespace.enter()?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let any = match families {
            Families::Both => "[::]",
            Families::V4 => "0.0.0.0",
        };
        for port in HTTP {
            let listener = TcpListener::bind(format!("{any}:{port}")).await?;
            tokio::spawn(http::listen(listener, site.clone()));
        }
        for port in HTTPS {
            let listener = TcpListener::bind(format!("{any}:{port}")).await?;
            tokio::spawn(tls::listen(listener, authority.acceptor(), site.clone()));
        }
        let listener = TcpListener::bind(format!("{any}:{}", raw::PORT)).await?;
        tokio::spawn(raw::listen(listener, Arc::clone(&site.journal)));
        dns::start(&site.journal, families).await?;
        for port in sinks::TCP {
            let listener = TcpListener::bind(format!("{any}:{port}")).await?;
            tokio::spawn(sinks::tcp(listener, Arc::clone(&site.journal)));
        }
        for port in sinks::UDP {
            let socket = UdpSocket::bind(format!("{any}:{port}")).await?;
            tokio::spawn(sinks::udp(socket, port, Arc::clone(&site.journal)));
        }
        // The counter's own packets end at this socket. Without this socket, the kernel would answer these packets with
        // ICMP errors.
        let discard = UdpSocket::bind((INTERNET.marker, 9)).await?;
        tokio::spawn(sinks::discard(discard));
        drop(ready.send(Ok(())));
        // No message is ever sent on this channel. The other end of the channel is dropped with the world.
        drop(stopped.await);
        Ok(())
    })
}
