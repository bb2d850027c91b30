//! Sends one request to the mediator and streams its answer back.
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::answer::{Judged, marked, unmarked};
use super::authority::Target;
use super::body::{AnswerEnd, Download, Exchange};
use super::first_bytes::line;
use super::guard::Refusal;
use super::headers::{MARK, REFUSED, for_agent, for_mediator, for_origin};
use super::pool::Link;
use super::report::{Flow, FlowVerdict};
use super::state::Relay;
use super::tunnel::{self, Tunnel};
use super::upload::{Upload, UploadState};

/// How a request is sent to the mediator.
#[derive(Debug)]
pub(super) struct Asked {
    /// `forward` or `fetch`, or `connect` if the request has its own tunnel.
    pub(super) transport: &'static str,
    /// Request target: the absolute form, one of the mediator's own paths, or, in a tunnel, the
    /// path at the origin.
    pub(super) target: String,
    /// Target in the flow log: the URL, or, in a tunnel, the destination.
    pub(super) url: String,
    /// Value of the Host field.
    pub(super) host: String,
    /// Destination of the tunnel that carries the request, or `None` for a request without a
    /// tunnel.
    pub(super) tunnel: Option<Target>,
}

/// Sends `request` to the mediator as `asked` describes, and reuses an idle connection if possible.
pub(super) async fn forward(
    relay: Arc<Relay>,
    request: Request<Incoming>,
    asked: Asked,
    mut flow: Flow,
    refusal: Refusal,
) -> Response<Download> {
    let tunnel = match &asked.tunnel {
        None => {
            flow.asked(asked.transport, request.method().as_str(), &asked.url);
            None
        }
        Some(target) => {
            flow.asked(asked.transport, "CONNECT", &asked.url);
            match tunnel::open(&relay, target, None).await {
                Ok(tunnel) => Some(tunnel),
                Err(denied) => {
                    denied.report(&mut flow);
                    return own(denied.answer(), &denied.reason);
                }
            }
        }
    };
    let is_tunnelled = tunnel.is_some();
    let is_wrapped = asked.transport == "fetch";
    // Only the answer to a `forward` request may be truncated without notice.
    let cut = relay
        .config
        .answer_cut
        .filter(|_| asked.transport == "forward");
    let passed = flow.passed();
    let upload = UploadState::new(Arc::clone(&passed));
    let sent = match prepare(request, asked, &upload) {
        Some(request) => {
            flow.head(&request);
            let patience = relay.config.limits.response;
            timeout(patience, send(&relay, request, tunnel, &mut flow))
                .await
                .unwrap_or(Err("mediator_timeout"))
        }
        None => Err("malformed_target"),
    };
    let (mut answer, link) = match sent {
        Ok(sent) => sent,
        Err(reason) => {
            if let Some(error) = refusal.get().filter(|error| error.is_in_body()) {
                let reason = error.to_string();
                flow.failed(&reason);
                return own(StatusCode::BAD_REQUEST, &reason);
            }
            if upload.is_broken() {
                flow.cut("client_closed");
                return own(StatusCode::BAD_GATEWAY, "client_closed");
            }
            flow.unanswered(reason);
            return own(StatusCode::BAD_GATEWAY, reason);
        }
    };
    if is_tunnelled {
        // An answer through a tunnel comes from the origin.
        flow.status(answer.status().as_u16());
        flow.verdict(FlowVerdict::Forwarded, "");
    } else {
        judge(&relay, &answer, is_wrapped, &mut flow);
    }
    let length = answer.body().size_hint().exact();
    for_agent(answer.headers_mut(), length);
    answer.map(|body| {
        Download::Mediator(Box::new(Exchange {
            relay,
            cut: cut.filter(|_| length.is_none()),
            body,
            link: Some(link),
            is_kept: !is_tunnelled,
            flow: Some(flow),
            upload,
            refusal,
            passed,
            ended: AnswerEnd::No,
        }))
    })
}

/// Returns an answer of the relay itself.
pub(super) fn own(status: StatusCode, reason: &str) -> Response<Download> {
    let mut response = Response::new(Download::Own(Some(Bytes::from(line(reason)))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if let Ok(reason) = HeaderValue::from_str(reason) {
        headers.insert(REFUSED, reason);
    }
    response
}

/// Judges the head of an answer and records the verdict in the report.
pub(super) fn judge<B>(relay: &Relay, answer: &Response<B>, is_wrapped: bool, flow: &mut Flow) {
    let status = answer.status().as_u16();
    flow.status(status);
    let find = |name: &str| {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let judged = match &relay.config.mark {
        Some(mark) => marked(status, mark, find(MARK), find),
        None => unmarked(status, is_wrapped, find),
    };
    match judged {
        Judged::Origin => flow.verdict(FlowVerdict::Forwarded, ""),
        Judged::Blocked(reason) => flow.verdict(FlowVerdict::Blocked, &reason),
        Judged::Answered(claimed) => {
            flow.verdict(FlowVerdict::Answered, &format!("answered_{status}"));
            flow.claimed(claimed);
        }
        Judged::Failed(reason) => flow.verdict(FlowVerdict::Failed, &reason),
    }
}

fn prepare(
    request: Request<Incoming>,
    asked: Asked,
    upload: &UploadState,
) -> Option<Request<Upload>> {
    let (mut parts, body) = request.into_parts();
    parts.uri = Uri::from_maybe_shared(Bytes::from(asked.target)).ok()?;
    parts.version = http::Version::HTTP_11;
    parts.extensions.clear();
    let host = HeaderValue::from_maybe_shared(Bytes::from(asked.host)).ok()?;
    match asked.tunnel {
        None => for_mediator(&mut parts.headers, host),
        Some(_) => for_origin(&mut parts.headers, host),
    }
    Some(Request::from_parts(
        parts,
        Upload::new(body, upload.clone()),
    ))
}

/// Sends a request, through its own tunnel if it has one. If an idle connection fails before an answer arrives, a
/// request that can be repeated is sent once more on a new connection.
async fn send(
    relay: &Relay,
    mut request: Request<Upload>,
    tunnel: Option<Tunnel>,
    flow: &mut Flow,
) -> Result<(Response<Incoming>, Link), &'static str> {
    if let Some(tunnel) = tunnel {
        flow.sent();
        return ask(tunnel.client().await?, request).await;
    }
    // A body cannot be sent twice. A request with a body therefore does not use an idle connection,
    // because the mediator may be closing it.
    if request.body().is_end_stream()
        && let Some(mut link) = relay.pool.take()
    {
        let again = repeatable(&request);
        flow.sent();
        match link.sender.try_send_request(request).await {
            Ok(answer) => return Ok((answer, link)),
            Err(mut error) => match error.take_message() {
                Some(unsent) => request = unsent,
                // The mediator sent an answer that cannot be parsed, so the mediator may have received the request.
                None if error.error().is_parse() => return Err("mediator_closed"),
                None => request = again.ok_or("mediator_closed")?,
            },
        }
    }
    let link = relay
        .pool
        .fresh()
        .await
        .map_err(|_cause| "mediator_unreachable")?;
    flow.sent();
    ask(link, request).await
}

async fn ask(
    mut link: Link,
    request: Request<Upload>,
) -> Result<(Response<Incoming>, Link), &'static str> {
    match link.sender.send_request(request).await {
        Ok(answer) if answer.status().is_informational() => Err("mediator_status"),
        Ok(answer) => Ok((answer, link)),
        Err(_) => Err("mediator_closed"),
    }
}

/// Returns a copy of a GET, HEAD, or OPTIONS request without a body, which may be sent again if an idle connection ends
/// without an answer. In that case, the mediator has usually closed the connection before it received the request.
fn repeatable(request: &Request<Upload>) -> Option<Request<Upload>> {
    if !matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    ) {
        return None;
    }
    let mut copy = Request::new(Upload::none());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
