//! Opens a WebSocket through the mediator's own `/ws` path, where its frames are looked at.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1::Parts;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::body::{Download, Ended, Exchange, Upload, UploadState};
use super::copy::{End, Ending, Watch};
use super::forward::{judge, own};
use super::frames::Frames;
use super::guard::Refusal;
use super::headers::{for_agent, for_mediator};
use super::pool::client;
use super::report::{Flow, Verdict};
use super::serve::Relay;
use super::tunnel::transfer;

/// The mediator's side of a WebSocket, as soon as hyper lets go of it.
#[derive(Debug)]
pub(super) struct Upgraded(JoinHandle<hyper::Result<Parts<TokioIo<TcpStream>>>>);

/// What the mediator made of it.
pub(super) enum Opened {
    /// It agreed.
    Agreed(Response<Download>, Upgraded, Flow),
    /// It, or the relay in its place, answered otherwise.
    Answered(Response<Download>),
}

/// Asks for `/ws?query`, with the client's own handshake fields.
pub(super) async fn open(
    relay: &Arc<Relay>,
    request: Request<Incoming>,
    query: &str,
    mut flow: Flow,
    refusal: &Refusal,
) -> Opened {
    flow.asked("websocket", "GET", &format!("/ws?{query}"));
    let exchange = async {
        let request = prepare(relay, request, query).ok_or("malformed_target")?;
        let stream = relay
            .pool
            .dial()
            .await
            .map_err(|_cause| "mediator_unreachable")?;
        let (mut sender, connection) = client()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_cause| "mediator_closed")?;
        let connection = tokio::spawn(connection.without_shutdown());
        let answer = sender
            .send_request(request)
            .await
            .map_err(|_cause| "mediator_closed")?;
        Ok((answer, connection))
    };
    let patience = relay.config.limits.answer;
    let (mut answer, connection) = match timeout(patience, exchange)
        .await
        .unwrap_or(Err("mediator_timeout"))
    {
        Ok(exchanged) => exchanged,
        Err(reason) => {
            flow.failed(reason);
            return Opened::Answered(own(StatusCode::BAD_GATEWAY, reason));
        }
    };
    judge(&answer, &mut flow);
    for_agent(answer.headers_mut());
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        upgrade_fields(answer.headers_mut());
        return Opened::Agreed(
            answer.map(|_| Download::Own(None)),
            Upgraded(connection),
            flow,
        );
    }
    Opened::Answered(answer.map(|body| {
        Download::Mediator(Box::new(Exchange {
            relay: Arc::clone(relay),
            body,
            sender: None,
            flow: Some(flow),
            upload: UploadState::default(),
            refusal: refusal.clone(),
            down: 0,
            ended: Ended::No,
        }))
    }))
}

/// Copies frames both ways; the mediator gets a Close frame however the agent ends, because it does
/// not notice the end of a connection without one.
pub(super) async fn run(
    relay: &Relay,
    agent: TcpStream,
    first: Vec<u8>,
    upgraded: Upgraded,
    mut flow: Flow,
) {
    let Ok(Ok(parts)) = upgraded.0.await else {
        flow.failed("mediator_closed");
        return;
    };
    let mut agent = End {
        stream: agent,
        first,
    };
    let mut mediator = End {
        stream: parts.io.into_inner(),
        first: parts.read_buf.to_vec(),
    };
    let mut frames = Frames::default();
    let copied = transfer(relay, &mut agent, &mut mediator, &mut frames).await;
    flow.bytes(copied.up, copied.down);
    flow.verdict(Verdict::Forwarded, "");
    if copied.end == Ending::Finished || !copied.up_drained {
        return;
    }
    if let Some(close) = frames.tail()
        && mediator.stream.write_all(&close).await.is_ok()
        && timeout(CLOSE_PATIENCE, drain(&mut mediator.stream))
            .await
            .is_err()
    {
        // The mediator has the frame; its answer is not needed.
    }
}

/// How long the mediator may take to close after a Close frame.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);

async fn drain(stream: &mut TcpStream) {
    let mut room = [0; 4096];
    while matches!(stream.read(&mut room).await, Ok(read) if read > 0) {}
}

fn prepare(relay: &Relay, request: Request<Incoming>, query: &str) -> Option<Request<Upload>> {
    let (parts, _) = request.into_parts();
    let mut ask = Request::new(Upload::none());
    *ask.method_mut() = Method::GET;
    *ask.uri_mut() = Uri::from_maybe_shared(Bytes::from(format!("/ws?{query}"))).ok()?;
    *ask.headers_mut() = parts.headers;
    let host = HeaderValue::from_str(&relay.pool.mediator().to_string()).ok()?;
    for_mediator(ask.headers_mut(), host);
    upgrade_fields(ask.headers_mut());
    Some(ask)
}

fn upgrade_fields(headers: &mut http::HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}
