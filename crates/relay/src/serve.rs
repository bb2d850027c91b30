//! Serves the relay's sockets until told to stop.
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use egress_policy::redact::Key;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::authority::{Host, Target};
use super::buffers::Buffers;
use super::limits::Limits;
use super::names::Names;
use super::orig_dst::{OriginalDestinations, SlotSource};
use super::plan::{PlainHttp, Report};
use super::pool::Pool;
use super::report::Reporter;
use super::{accept, dns, proxy};

/// More connections than any backlog holds.
const MAX_WAITING: u32 = 65_536;

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

/// The relay's sockets, bound and listening.
#[derive(Debug)]
pub struct Sockets {
    /// Redirected connections, IPv4.
    pub transparent_v4: std::net::TcpListener,
    /// Redirected connections, IPv6.
    pub transparent_v6: Option<std::net::TcpListener>,
    /// The explicit proxy port.
    pub proxy_v4: std::net::TcpListener,
    /// The stub resolver, UDP.
    pub dns_udp: Option<std::net::UdpSocket>,
    /// The stub resolver, TCP.
    pub dns_tcp: Option<std::net::TcpListener>,
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
    connections: Arc<Semaphore>,
    tunnels: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Relay {
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

/// Serves until `stop` ends; then closes what is open, and has sent every report when it returns.
///
/// # Errors
/// A socket cannot be registered with the runtime; nothing was served.
pub async fn serve(
    config: Config,
    sockets: Sockets,
    slots: Box<dyn SlotSource>,
    reports: mpsc::Sender<Report>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let (stopper, stopped) = watch::channel(false);
    let limits = config.limits.clone();
    let (reporter, pump) = Reporter::new(
        limits.connections.saturating_mul(2),
        reports,
        config.redaction_key.clone(),
    );
    let relay = Arc::new(Relay {
        reporter,
        destinations: OriginalDestinations::new(slots),
        pool: Pool::new(config.mediator, limits.connect),
        buffers: Buffers::new(limits.buffers),
        names: Mutex::new(Names::new(limits.names)),
        connections: Arc::new(Semaphore::new(
            limits.connections.min(Semaphore::MAX_PERMITS),
        )),
        tunnels: Arc::new(Semaphore::new(limits.tunnels.min(Semaphore::MAX_PERMITS))),
        stop: stopped,
        config,
    });

    let mut loops = JoinSet::new();
    for listener in [Some(sockets.transparent_v4), sockets.transparent_v6]
        .into_iter()
        .flatten()
    {
        let waiting = listener.try_clone()?;
        let listener = registered(listener)?;
        let relay = Arc::clone(&relay);
        loops.spawn(async move {
            let mut tasks = accept_loop(Arc::clone(&relay), listener, accept::transparent).await;
            leave(&relay, &waiting, &mut tasks);
            tasks
        });
    }
    let listener = registered(sockets.proxy_v4)?;
    loops.spawn(accept_loop(Arc::clone(&relay), listener, proxy::serve));
    if let Some(listener) = sockets.dns_tcp {
        loops.spawn(accept_loop(
            Arc::clone(&relay),
            registered(listener)?,
            dns::serve_tcp,
        ));
    }
    if let Some(socket) = sockets.dns_udp {
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        let relay = Arc::clone(&relay);
        loops.spawn(async move {
            let stop = relay.stopped();
            tokio::select! {
                () = dns::serve_udp(&relay, &socket) => {}
                () = stop => {}
            }
            JoinSet::new()
        });
    }

    let tending = tokio::spawn({
        let pool = relay.pool.clone();
        async move { pool.tend().await }
    });
    let mut pump = pin!(pump.run());
    let unread = tokio::select! {
        () = stop => false,
        // Nobody takes reports any more: then nothing may go on either.
        () = &mut pump => true,
    };
    stopper.send_replace(true);
    tending.abort();
    let closing = async {
        let mut open = Vec::new();
        while let Some(tasks) = loops.join_next().await {
            open.extend(tasks);
        }
        close(open, limits.shutdown).await;
        relay.reporter.end();
    };
    // Reports are taken while the last flows end, so that these never wait for a permit in vain.
    tokio::join!(closing, async {
        if !unread {
            pump.await;
        }
    });
    Ok(())
}

/// Reports the connections that were established and never accepted: each redirect has its row.
fn leave(relay: &Arc<Relay>, listener: &std::net::TcpListener, tasks: &mut JoinSet<()>) {
    for _ in 0..MAX_WAITING {
        // The clone shares the file description, which does not block.
        let Ok((stream, peer)) = listener.accept() else {
            return;
        };
        tasks.spawn(accept::unserved(Arc::clone(relay), stream, peer));
    }
}

/// Gives the open connections their time to end, then ends them.
async fn close(open: Vec<JoinSet<()>>, grace: Duration) {
    let patience = sleep(grace);
    let mut patience = pin!(patience);
    for mut tasks in open {
        loop {
            tokio::select! {
                ended = tasks.join_next() => if ended.is_none() { break },
                () = &mut patience => {
                    tasks.shutdown().await;
                    break;
                }
            }
        }
    }
}

fn registered(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    // Accepted sockets inherit it from their listener.
    socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
    TcpListener::from_std(listener)
}

/// Accepts until told to stop, and returns the connections that are open then.
async fn accept_loop<F>(
    relay: Arc<Relay>,
    listener: TcpListener,
    serve: impl Fn(Arc<Relay>, TcpStream, SocketAddr) -> F,
) -> JoinSet<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let stop = relay.stopped();
    let mut stop = pin!(stop);
    loop {
        // Without a place free the connection waits in the backlog. The stop comes first in both
        // choices: it frees places, and nobody is let in to one of those.
        let place = tokio::select! {
            biased;
            () = &mut stop => return tasks,
            place = Arc::clone(&relay.connections).acquire_owned() => place,
        };
        let accepted = loop {
            tokio::select! {
                biased;
                () = &mut stop => return tasks,
                _ = tasks.join_next(), if !tasks.is_empty() => {}
                accepted = listener.accept() => break accepted,
            }
        };
        match accepted {
            Ok((stream, peer)) => {
                let served = serve(Arc::clone(&relay), stream, peer);
                tasks.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            // Out of descriptors or memory: the backlog keeps what cannot be taken now.
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Closes a connection so that the client sees what was sent last: a socket closed with unread
/// bytes is reset, and a reset discards what the client has not read yet.
pub(super) async fn close_gently(relay: &Relay, mut stream: TcpStream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    if stream.shutdown().await.is_err() {
        return;
    }
    let linger = relay.config.limits.linger;
    // An answer may come before the end of a body: the client then goes on sending for a while, and reads late.
    let drain = async {
        let mut room = vec![0; 16 * 1024];
        let mut left = MOST_UNWANTED;
        while left > 0 {
            match timeout(linger, stream.read(&mut room)).await {
                Ok(Ok(read @ 1..)) => left = left.saturating_sub(read),
                _ => return,
            }
        }
        sleep(linger).await;
    };
    tokio::select! {
        () = drain => {}
        // The client sends slowly and without an end; it had its time.
        () = sleep(linger.saturating_mul(LINGERS)) => {}
        () = relay.stopped() => {}
    }
}

/// How much of what nobody wants is read. The kernel counts it as sent, and no row of the relay has it, so it must stay
/// small beside what may sit unread in a socket's buffers.
const MOST_UNWANTED: usize = 8 << 20;

/// How many times the pause of a client that still sends may take in all.
const LINGERS: u32 = 5;
