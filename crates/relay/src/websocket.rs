//! Opens a WebSocket through a tunnel, or through the mediator's `/ws` path, where a Pipelock inspects the frames.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::Parts;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::authority::Target;
use super::body::{AnswerEnd, Download, Exchange};
use super::copy::{End, Ending, Watch};
use super::forward::{judge, own};
use super::frames::{Frames, Seen};
use super::guard::Refusal;
use super::headers::{for_agent, for_mediator, for_origin};
use super::pool::client;
use super::query::Rewritten;
use super::report::{Flow, FlowVerdict};
use super::state::Relay;
use super::tunnel::{self, Denied, Tunnel, ended, transfer};
use super::upload::{Upload, UploadState};

/// How a WebSocket goes through the mediator.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way<'a> {
    /// Through `/ws`, with this query.
    Scanned(&'a Rewritten),
    /// Through a tunnel to this target, with this path at the origin.
    Tunnel(&'a Target, &'a str),
}

/// The mediator's side of a WebSocket. hyper releases it after the handshake.
#[derive(Debug)]
pub(super) struct Upgraded {
    parts: JoinHandle<hyper::Result<Parts<TokioIo<TcpStream>>>>,
    is_tunnelled: bool,
    place: OwnedSemaphorePermit,
}

/// Result of the handshake.
pub(super) enum Opened {
    /// The handshake succeeded.
    Agreed(Response<Download>, Upgraded, Flow),
    /// The mediator, or the relay itself, gave another answer.
    Answered(Response<Download>),
}

/// Performs the handshake through the mediator, with the client's handshake fields.
pub(super) async fn open(
    relay: &Arc<Relay>,
    request: Request<Incoming>,
    way: Way<'_>,
    mut flow: Flow,
    refusal: &Refusal,
) -> Opened {
    match way {
        Way::Scanned(query) => flow.asked("websocket", "GET", &query.url),
        Way::Tunnel(target, _) => flow.asked("connect", "CONNECT", &target.to_string()),
    }
    let (stream, place) = match dial(relay, way).await {
        Ok(dialled) => dialled,
        Err(denied) => {
            denied.report(&mut flow);
            return Opened::Answered(own(denied.answer(), &denied.reason));
        }
    };
    let passed = flow.passed();
    let request = prepare(relay, request, way);
    if let Some(request) = &request {
        flow.head(request);
        flow.sent();
    }
    let exchange = async {
        let request = request.ok_or("malformed_target")?;
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
            flow.unanswered(reason);
            return Opened::Answered(own(StatusCode::BAD_GATEWAY, reason));
        }
    };
    let is_tunnelled = matches!(way, Way::Tunnel(..));
    if is_tunnelled {
        flow.status(answer.status().as_u16());
        flow.verdict(FlowVerdict::Forwarded, "");
    } else {
        judge(relay, &answer, false, &mut flow);
    }
    let length = answer.body().size_hint().exact();
    for_agent(answer.headers_mut(), length);
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        upgrade_fields(answer.headers_mut());
        return Opened::Agreed(
            answer.map(|_| Download::Own(None)),
            Upgraded {
                parts: connection,
                is_tunnelled,
                place,
            },
            flow,
        );
    }
    Opened::Answered(answer.map(|body| {
        Download::Mediator(Box::new(Exchange {
            relay: Arc::clone(relay),
            body,
            cut: None,
            link: None,
            is_kept: false,
            flow: Some(flow),
            upload: UploadState::none(),
            refusal: refusal.clone(),
            passed,
            ended: AnswerEnd::No,
        }))
    }))
}

/// Copies frames in both directions. On the `/ws` path, the relay ends the stream with a Close frame if the command did
/// not, because Pipelock does not write a receipt for a WebSocket that ends without one.
pub(super) async fn run(
    relay: &Relay,
    agent: TcpStream,
    first: Vec<u8>,
    upgraded: Upgraded,
    mut flow: Flow,
) {
    let Upgraded {
        parts,
        is_tunnelled,
        place,
    } = upgraded;
    let Ok(Ok(parts)) = parts.await else {
        flow.cut("mediator_closed");
        return;
    };
    let passed = flow.passed();
    let mut agent = End {
        stream: agent,
        first,
    };
    let mut mediator = End {
        stream: parts.io.into_inner(),
        first: parts.read_buf.to_vec(),
    };
    if is_tunnelled {
        let mut seen = Seen::default();
        let copied = transfer(relay, &mut agent, &mut mediator, &passed, &mut seen).await;
        return report(&mut flow, copied.end);
    }
    let mut frames = Frames::default();
    let copied = transfer(relay, &mut agent, &mut mediator, &passed, &mut frames).await;
    report(&mut flow, copied.end);
    if copied.end != Ending::Finished {
        let mut last = copied.up_rest;
        last.extend(frames.tail().unwrap_or_default());
        let close = async {
            if mediator.stream.write_all(&last).await.is_ok() {
                drain(&mut mediator.stream).await;
            }
        };
        if timeout(CLOSE_PATIENCE, close).await.is_err() {
            // The mediator has received the frame or no longer reads. The mediator's answer is not
            // needed.
        }
    }
    drop(place);
}

/// Records the end of a WebSocket in the report.
fn report(flow: &mut Flow, end: Ending) {
    if end == Ending::Refused {
        flow.verdict(FlowVerdict::Unfinished, "unmasked_frame");
    } else {
        ended(flow, end);
    }
}

/// Opens a connection for a WebSocket, and takes a place among the tunnels.
async fn dial(relay: &Relay, way: Way<'_>) -> Result<(TcpStream, OwnedSemaphorePermit), Denied> {
    match way {
        Way::Tunnel(target, _) => match tunnel::open(relay, target, None).await? {
            Tunnel { end, place } if end.first.is_empty() => Ok((end.stream, place)),
            // The origin sent bytes before the request.
            Tunnel { .. } => Err(Denied::failed("upstream_failed")),
        },
        Way::Scanned(_) => {
            let place = relay
                .place()
                .await
                .ok_or_else(|| Denied::failed("stopped"))?;
            let dialled = relay.pool.dial().await;
            let stream = dialled.map_err(|_cause| Denied::failed("mediator_unreachable"))?;
            Ok((stream, place))
        }
    }
}

/// Maximum time for the mediator to close the connection after a Close frame.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);

async fn drain(stream: &mut TcpStream) {
    let mut room = [0; 4096];
    while matches!(stream.read(&mut room).await, Ok(read) if read > 0) {}
}

fn prepare(relay: &Relay, request: Request<Incoming>, way: Way<'_>) -> Option<Request<Upload>> {
    let (parts, _) = request.into_parts();
    let (path, host) = match way {
        Way::Scanned(query) => (
            format!("/ws?{}", query.query),
            relay.pool.mediator().to_string(),
        ),
        Way::Tunnel(target, path) => (path.to_owned(), target.authority(80)),
    };
    let mut ask = Request::new(Upload::none());
    *ask.method_mut() = Method::GET;
    *ask.uri_mut() = Uri::from_maybe_shared(Bytes::from(path)).ok()?;
    *ask.headers_mut() = parts.headers;
    let host = HeaderValue::from_str(&host).ok()?;
    match way {
        Way::Scanned(_) => for_mediator(ask.headers_mut(), host),
        Way::Tunnel(..) => for_origin(ask.headers_mut(), host),
    }
    upgrade_fields(ask.headers_mut());
    Some(ask)
}

fn upgrade_fields(headers: &mut http::HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}
