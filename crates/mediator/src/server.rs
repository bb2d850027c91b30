//! Accepts connections, dispatches their requests, and shuts down.
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use egress_policy::redact;
use http::header::HOST;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pipelock_receipts::record::{ActionType, Transport};
use pipelock_receipts::recorder::Closed;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::body::RequestBody;
use super::headers::MARK;
use super::phase::Phase;
use super::recorder::{EvidenceError, Facts};
use super::reply::{self, Payload, Refusal};
use super::state::BuiltinMediator;
use super::target::url_parameter;
use super::{admit, forward, health, tunnel, websocket};

/// Maximum length of a request head, which is enough for 64 KiB of fields and 64 KiB of target. The HTTP library
/// rejects a longer head without a receipt, so the limit must exceed the relay's limit.
const MAX_HEAD: usize = 132 << 10;
/// Maximum number of header fields of a request.
const MAX_HEADERS: usize = 128;
/// Maximum time to receive a complete head. A connection may also stay idle this long between requests.
const HEAD_LIMIT: Duration = Duration::from_mins(1);
/// Time to send the last denials after a failure.
const FAREWELL: Duration = Duration::from_millis(200);

impl BuiltinMediator {
    /// Serves until `stop` completes, waits for activities to end, and closes the session.
    ///
    /// # Errors
    /// Fails if a receipt cannot be written. The mediator then denies requests for a short time and stops.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<Closed, EvidenceError> {
        if let Some(error) = Arc::clone(&self).until_stopped(listener, stop).await {
            self.end_all().await;
            return Err(error);
        }
        self.phase.send_replace(Phase::Draining);
        if timeout(self.capacity.drain, self.gauge.empty())
            .await
            .is_err()
        {
            self.ledger.stopping();
        }
        self.end_all().await;
        self.ledger.close("graceful_shutdown")
    }

    /// Serves until `stop` completes or a receipt cannot be written, and then closes the listener. Returns the error if
    /// a receipt could not be written.
    async fn until_stopped(
        self: Arc<Self>,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Option<EvidenceError> {
        let mut accepting = pin!(Arc::clone(&self).accept(listener));
        let failed = async {
            tokio::select! {
                error = self.ledger.failure() => error,
                error = self.beat() => error,
            }
        };
        tokio::select! {
            biased;
            error = failed => {
                // Waiting and new requests are denied for a short time.
                drop(timeout(FAREWELL, accepting).await);
                Some(error)
            }
            () = stop => None,
            () = &mut accepting => None,
        }
    }

    async fn end_all(&self) {
        self.phase.send_replace(Phase::Cut);
        self.gauge.empty().await;
    }

    /// Writes heartbeats until one cannot be written, and returns the error.
    async fn beat(&self) -> EvidenceError {
        let mut ticks = interval_at(Instant::now() + self.heartbeat, self.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.ledger.heartbeat() {
                return error;
            }
        }
    }

    /// Accepts connections until the future is dropped.
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _peer)) => {
                    let active = self.gauge.enter();
                    let mediator = Arc::clone(&self);
                    tokio::spawn(async move {
                        mediator.converse(stream, permit).await;
                        drop(active);
                    });
                }
                // The peer has already closed, or no descriptor is free. The next accept may succeed.
                Err(_lost) => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Answers the requests of one client connection.
    async fn converse(self: Arc<Self>, stream: TcpStream, permit: OwnedSemaphorePermit) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let mediator = Arc::clone(&self);
        let service = service_fn(move |request| {
            let mediator = Arc::clone(&mediator);
            async move { Ok::<_, Infallible>(mediator.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD)
            .half_close(true)
            .preserve_header_case(true)
            .auto_date_header(false)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        tokio::select! {
            biased;
            () = ended(connection.as_mut()) => {}
            () = self.phases.cut() => {}
            () = self.phases.draining() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    () = ended(connection) => {}
                    () = self.phases.cut() => {}
                }
            }
        }
        drop(permit);
    }

    /// Answers a request, and adds the mark if the answer is the mediator's own.
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Payload> {
        let mark = self.secrets.mark.clone();
        let phases = self.phases.clone();
        let request = request.map(|body| RequestBody::new(body, phases));
        let mut answer = self.route(request).await;
        match answer.body() {
            Payload::Text(_) => {
                answer.headers_mut().insert(MARK, mark);
            }
            Payload::Stream(_) | Payload::Switched => {}
        }
        answer
    }

    async fn route(self: Arc<Self>, request: Request<RequestBody>) -> Response<Payload> {
        if self.ledger.failed().is_some() {
            return reply::emission_failed();
        }
        if let Some(fault) = framing_fault(&request) {
            return reply::text(StatusCode::BAD_REQUEST, fault);
        }
        if request.method() == Method::CONNECT {
            return tunnel::connect(self, request).await;
        }
        if request.uri().scheme().is_some() {
            return forward::forward(self, request).await;
        }
        // Paths are compared literally, so a path with an escape, a second slash, or a dot segment is not found.
        match request.uri().path() {
            "/health" if request.uri().authority().is_none() => health::answer(&self),
            "/ws" if request.uri().query().is_some() => websocket::open(self, request).await,
            "/fetch" if request.uri().query().is_some() => self.fetch(&request),
            _ => reply::text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    /// Denies Pipelock's `/fetch`, because the built-in mediator does not fetch pages itself.
    fn fetch(&self, request: &Request<RequestBody>) -> Response<Payload> {
        let not_found = StatusCode::NOT_FOUND;
        let Some(Ok(url)) = request.uri().path_and_query().map(url_parameter) else {
            return reply::text(not_found, "not found\n");
        };
        let facts = Facts {
            transport: Transport::Fetch,
            action_type: ActionType::for_method(request.method().as_str()),
            method: request.method().to_string(),
            target: redact::target(&url.to_string(), &self.secrets.redaction_key),
            request_id: self.next_request_id(),
        };
        let text = String::from("the built-in mediator has no /fetch");
        let refusal = Refusal::unserved(not_found, "unsupported", "fetch_not_supported", text);
        admit::refuse(self, &facts, &refusal)
    }
}

async fn ended<T>(connection: impl Future<Output = Result<T, hyper::Error>>) {
    // An error of the connection is ignored, because its requests already have receipts.
    drop(connection.await);
}

/// Returns the error text if the request has more than one Host field, which the HTTP library accepts. The library
/// itself rejects or resolves ambiguous lengths.
fn framing_fault<B>(request: &Request<B>) -> Option<&'static str> {
    let hosts = request.headers().get_all(HOST).iter().count();
    (hosts > 1).then_some("more than one Host header\n")
}

/// Registers an inherited listener with the runtime.
///
/// # Errors
/// Fails if the listener cannot be made non-blocking or registered.
pub(super) fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
