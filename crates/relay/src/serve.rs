//! Serves the relay's sockets until the supervisor stops the relay.
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::orig_dst::SlotSource;
use super::plan::Config;
use super::report::{Outgoing, Reporter};
use super::state::Relay;
use super::{accept, dns};

/// An upper bound for the number of connections in a listen backlog.
const MAX_WAITING: u32 = 65_536;

/// The relay's sockets, bound and listening.
#[derive(Debug)]
pub struct Sockets {
    /// Listener for redirected IPv4 connections.
    pub transparent_v4: std::net::TcpListener,
    /// Listener for redirected IPv6 connections.
    pub transparent_v6: Option<std::net::TcpListener>,
    /// Listener on the explicit proxy port.
    pub proxy_v4: std::net::TcpListener,
    /// UDP socket of the stub resolver.
    pub dns_udp: Option<std::net::UdpSocket>,
    /// TCP listener of the stub resolver.
    pub dns_tcp: Option<std::net::TcpListener>,
}

/// Serves until `stop` completes or the receiver of `reports` is closed. After that, closes open connections, and
/// returns when no report is left to send.
///
/// # Errors
/// Fails if a socket cannot be registered with the runtime.
pub async fn serve(
    config: Config,
    sockets: Sockets,
    slots: Box<dyn SlotSource>,
    reports: mpsc::Sender<Outgoing>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let (stopper, stopped) = watch::channel(false);
    let (reporter, pump) = Reporter::new(
        config.limits.connections.saturating_mul(2),
        reports,
        config.redaction_key.clone(),
        config.redaction_patterns.clone(),
    );
    let shutdown = config.limits.shutdown;
    let relay = Arc::new(Relay::new(config, reporter, slots, stopped));

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
            report_unserved(&relay, &waiting, &mut tasks);
            tasks
        });
    }
    let listener = registered(sockets.proxy_v4)?;
    loops.spawn(accept_loop(Arc::clone(&relay), listener, accept::proxy));
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
        // Reports are no longer received, so nothing may be served.
        () = &mut pump => true,
    };
    stopper.send_replace(true);
    tending.abort();
    let closing = async {
        let mut open = Vec::new();
        while let Some(tasks) = loops.join_next().await {
            open.extend(tasks);
        }
        close(open, shutdown).await;
        relay.reporter.end();
    };
    // The pump runs while the last flows end, so that these flows do not wait for a permit forever.
    tokio::join!(closing, async {
        if !unread {
            pump.await;
        }
    });
    Ok(())
}

/// Reports redirected connections that were established and never accepted, so that the flow log contains them too.
fn report_unserved(relay: &Arc<Relay>, listener: &std::net::TcpListener, tasks: &mut JoinSet<()>) {
    for _ in 0..MAX_WAITING {
        // The clone shares the file description of the listener, which is in non-blocking mode, so `accept` does not
        // wait.
        let Ok((stream, peer)) = listener.accept() else {
            return;
        };
        tasks.spawn(accept::unserved(Arc::clone(relay), stream, peer));
    }
}

/// Waits up to `grace` for the open connections to end, then aborts them.
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
    // Accepted sockets inherit `TCP_NODELAY` from the listener.
    socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
    TcpListener::from_std(listener)
}

/// Accepts connections until the relay stops, and returns the connections that are still open.
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
        // Without a free place, the connection waits in the backlog. Both selections check the stop first, because a
        // stop frees places that must not be given to a new connection.
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
            // The process is usually out of descriptors or memory, and the connection stays in the backlog.
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}
