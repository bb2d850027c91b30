//! Serves HTTP/1. Judges each request of a connection separately.
//!
//! Claims: name-match
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::ask::{Ask, Refused, ask, host_field};
use super::authority::{self, Target};
use super::body::Download;
use super::first_bytes::{close_gently, refuse_http};
use super::forward::{Asked, forward, own};
use super::guard::{Guard, Refusal};
use super::http_head::{HeadError, MAX_HEAD};
use super::plan::PlainHttp;
use super::query::Rewritten;
use super::report::{Flow, FlowVerdict, Origin};
use super::state::Relay;
use super::websocket::Way;
use super::{proxy, tls, websocket};

/// Which requests a connection may carry.
#[derive(Debug, Clone)]
pub(super) enum Mode {
    /// A redirected connection, which may carry only requests for its destination.
    Transparent(Target),
    /// A connection to the explicit proxy port.
    Proxy,
}

/// The traffic of the connection after its last HTTP request.
#[derive(Debug)]
pub(super) enum After {
    /// A tunnel that the command requested with CONNECT. The command receives its 200 before the mediator receives the
    /// request, so that the relay can read and judge the `ClientHello` first. If the mediator then denies the tunnel,
    /// the command receives a TLS alert.
    Tunnel(Target, Flow),
    /// A WebSocket whose handshake succeeded.
    WebSocket(websocket::Upgraded, Flow),
}

/// One connection of the command.
#[derive(Debug)]
struct Connection {
    relay: Arc<Relay>,
    mode: Mode,
    origin: Origin,
    refusal: Refusal,
    /// The flow of the first request, opened at accept.
    first: Mutex<Option<Flow>>,
    after: Mutex<Option<After>>,
    requests: AtomicU64,
}

/// Serves a connection whose first bytes are `bytes`.
pub(super) async fn serve(
    relay: Arc<Relay>,
    stream: TcpStream,
    bytes: &[u8],
    mode: Mode,
    origin: Origin,
    flow: Option<Flow>,
) {
    let guard = Guard::new(stream, bytes);
    let connection = Arc::new(Connection {
        relay: Arc::clone(&relay),
        mode,
        origin,
        refusal: guard.refusal(),
        first: Mutex::new(flow),
        after: Mutex::new(None),
        requests: AtomicU64::new(0),
    });
    let service = service_fn({
        let connection = Arc::clone(&connection);
        move |request| {
            let connection = Arc::clone(&connection);
            Box::pin(async move { Ok::<_, Infallible>(connection.answer(request).await) })
        }
    });
    let mut http = http1::Builder::new()
        .half_close(true)
        .auto_date_header(false)
        .max_buf_size(MAX_HEAD + 16 * 1024)
        .timer(TokioTimer::new())
        .header_read_timeout(relay.config.limits.keep_alive)
        .serve_connection(TokioIo::new(guard), service);
    let mut stop = pin!(relay.stopped());
    let mut stopping = false;
    let served = poll_fn(|cx| {
        if !stopping && stop.as_mut().poll(cx).is_ready() {
            stopping = true;
            Pin::new(&mut http).graceful_shutdown();
        }
        http.poll_without_shutdown(cx)
    })
    .await;

    let parts = http.into_parts();
    let guard = parts.io.into_inner();
    let after = lock(&connection.after).take();
    match (after, served) {
        (Some(after), Ok(())) => {
            let (stream, held) = guard.into_parts();
            let mut first = parts.read_buf.to_vec();
            first.extend_from_slice(&held);
            match after {
                After::Tunnel(target, flow) => {
                    tls::inside(&relay, stream, first, &target, flow).await;
                }
                After::WebSocket(upgraded, flow) => {
                    websocket::run(&relay, stream, first, upgraded, flow).await;
                }
            }
        }
        (Some(After::Tunnel(_, mut flow) | After::WebSocket(_, mut flow)), Err(_)) => {
            flow.cut("client_closed");
        }
        (None, served) => connection.end(guard, served.is_err()).await,
    }
}

impl Connection {
    async fn flow(&self) -> Flow {
        let first = lock(&self.first).take();
        match first {
            Some(flow) => flow,
            None => self.relay.reporter.flow(self.origin, "http").await,
        }
    }

    /// Ends a connection that carries no more requests. If bytes were denied before they became a request, reports them
    /// and answers the client.
    async fn end(&self, guard: Guard, broken: bool) {
        if self.refusal.is_closed() && self.refusal.get().is_none() {
            let (stream, _) = guard.into_parts();
            return close_gently(&self.relay, stream).await;
        }
        let seen = self.requests.load(Ordering::Relaxed);
        let refusal = self.refusal.get().filter(|error| !error.is_in_body());
        let is_unused = lock(&self.first).is_some();
        let (status, reason) = if let Some(error) = refusal {
            (error.status(), error.to_string())
        } else if guard.has_partial_head() || is_unused && guard.heads() == seen {
            (408, HeadError::Incomplete.to_string())
        } else if guard.heads() > seen {
            // hyper rejected a head that the guard approved. This should not happen, but must be reported.
            (400, "http_parser".to_owned())
        } else {
            let (stream, _) = guard.into_parts();
            if !broken {
                close_gently(&self.relay, stream).await;
            }
            return;
        };
        let mut flow = self.flow().await;
        flow.protocol(if refusal == Some(HeadError::H2c) {
            "h2c"
        } else {
            "http"
        });
        if let Mode::Transparent(target) = &self.mode {
            flow.target(target);
        }
        flow.verdict(FlowVerdict::Refused, &reason);
        let (stream, _) = guard.into_parts();
        refuse_http(&self.relay, stream, status, &reason).await;
    }

    /// Judges one request and answers it.
    async fn answer(&self, request: Request<Incoming>) -> Response<Download> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut flow = self.flow().await;
        flow.protocol("http");
        let judged = match &self.mode {
            Mode::Transparent(target) => {
                flow.target(target);
                judge(
                    &self.relay,
                    target,
                    request.method(),
                    request.uri(),
                    request.headers(),
                )
            }
            Mode::Proxy => proxy::judge(
                &self.relay,
                request.method(),
                request.uri(),
                request.headers(),
                &mut flow,
            ),
        };
        let ask = match judged {
            Ok(ask) => ask,
            Err(Refused(status, reason)) => {
                flow.refused(reason);
                return own(
                    StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN),
                    reason,
                );
            }
        };
        let relay = Arc::clone(&self.relay);
        let mediator = relay.pool.mediator().to_string();
        match ask {
            Ask::Forward(target, path) if relay.config.plain_http == PlainHttp::Tunnel => {
                flow.target(&target);
                let asked = Asked {
                    transport: "connect",
                    target: path,
                    url: target.to_string(),
                    host: target.authority(80),
                    tunnel: Some(target),
                };
                forward(relay, request, asked, flow, self.refusal.clone()).await
            }
            Ask::Forward(target, path) => {
                flow.target(&target);
                let host = target.authority(80);
                let url = format!("http://{host}{path}");
                let asked = Asked {
                    transport: "forward",
                    target: url.clone(),
                    url,
                    host,
                    tunnel: None,
                };
                forward(relay, request, asked, flow, self.refusal.clone()).await
            }
            Ask::Fetch(target, query) => {
                flow.target(&target);
                let asked = Asked {
                    transport: "fetch",
                    target: format!("/fetch?{}", query.query),
                    url: query.url,
                    host: mediator,
                    tunnel: None,
                };
                forward(relay, request, asked, flow, self.refusal.clone()).await
            }
            Ask::WebSocket(target, path) if relay.config.plain_http == PlainHttp::Tunnel => {
                let way = Way::Tunnel(&target, &path);
                self.websocket(request, &target, way, flow).await
            }
            Ask::WebSocket(target, path) => {
                let url = format!("ws://{}{path}", target.authority(80));
                let query = Rewritten::new(url);
                self.websocket(request, &target, Way::Scanned(&query), flow)
                    .await
            }
            Ask::WebSocketQuery(target, query) => {
                self.websocket(request, &target, Way::Scanned(&query), flow)
                    .await
            }
            Ask::Connect(target) => {
                flow.target(&target);
                flow.protocol("connect");
                *lock(&self.after) = Some(After::Tunnel(target, flow));
                Response::new(Download::Own(None))
            }
        }
    }

    async fn websocket(
        &self,
        request: Request<Incoming>,
        target: &Target,
        way: Way<'_>,
        mut flow: Flow,
    ) -> Response<Download> {
        flow.target(target);
        flow.protocol("websocket");
        match websocket::open(&self.relay, request, way, flow, &self.refusal).await {
            websocket::Opened::Agreed(answer, upgraded, flow) => {
                *lock(&self.after) = Some(After::WebSocket(upgraded, flow));
                answer
            }
            websocket::Opened::Answered(answer) => answer,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Judges a request of a redirected connection to `target`.
fn judge(
    relay: &Relay,
    target: &Target,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Ask, Refused> {
    if method == Method::CONNECT {
        return Err(Refused(405, "connect_not_to_proxy"));
    }
    let host = host_field(headers)?;
    // A synthetic address in the request stands for its host name.
    let is_target = |text: &str| {
        authority::parse(text, Some(80))
            .is_some_and(|(host, port)| relay.target(host, port).as_ref() == Ok(target))
    };
    if !is_target(host) {
        return Err(Refused(403, "name_mismatch"));
    }
    let path = match (uri.scheme_str(), uri.authority()) {
        (None, None) => uri.path_and_query().map_or("/", |path| path.as_str()),
        (Some("http"), Some(authority)) if is_target(authority.as_str()) => {
            uri.path_and_query().map_or("/", |path| path.as_str())
        }
        (Some("http"), Some(_)) => return Err(Refused(403, "name_mismatch")),
        _ => return Err(Refused(400, "malformed_target")),
    };
    // `OPTIONS *` has no path with which the URL for the mediator could be built.
    if !path.starts_with('/') {
        return Err(Refused(400, "malformed_target"));
    }
    ask(target.clone(), path, method, headers)
}
