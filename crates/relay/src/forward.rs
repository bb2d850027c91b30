//! Sends one request to the mediator and streams its answer back.
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::answer::{Judged, marked, unmarked};
use super::authority::Target;
use super::body::{Download, Ended, Exchange};
use super::first::line;
use super::guard::Refusal;
use super::headers::{MARK, REFUSED, for_agent, for_mediator, for_origin};
use super::pool::Link;
use super::report::{Flow, Verdict};
use super::state::Relay;
use super::tunnel::{self, Tunnel};
use super::upload::{Upload, UploadState};

/// What the mediator is asked.
#[derive(Debug)]
pub(super) struct Asked {
    /// `forward` or `fetch`.
    pub(super) transport: &'static str,
    /// Absolute form, one of the mediator's own paths, or with a tunnel the path at the origin.
    pub(super) target: String,
    /// What the flow log shows: the URL, with a tunnel the destination.
    pub(super) url: String,
    /// The Host field that goes with it.
    pub(super) host: String,
    /// What the tunnel is for that it goes through.
    pub(super) tunnel: Option<Target>,
}

/// Sends `request` on as `asked`, over a warm connection if there is one.
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
    // Only an answer that the mediator has looked into can be one that it cut.
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
        // What comes through a tunnel is the origin's.
        flow.status(answer.status().as_u16());
        flow.verdict(Verdict::Forwarded, "");
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
            ended: Ended::No,
        }))
    })
}

/// The relay's own answer.
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

/// Puts what the head of an answer shows into the report.
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
        Judged::Origin => flow.verdict(Verdict::Forwarded, ""),
        Judged::Blocked(reason) => flow.verdict(Verdict::Blocked, &reason),
        Judged::Answered(claimed) => {
            flow.verdict(Verdict::Answered, &format!("answered_{status}"));
            flow.claimed(claimed);
        }
        Judged::Failed(reason) => flow.verdict(Verdict::Failed, &reason),
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

/// Sends a request, through its own tunnel if it has one; an idle connection that turns out to be
/// closed is replaced once.
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
    // A body cannot be sent twice, so it goes over a connection that nobody is about to close.
    if request.body().is_end_stream()
        && let Some(mut link) = relay.pool.take()
    {
        let again = repeatable(&request);
        flow.sent();
        match link.sender.try_send_request(request).await {
            Ok(answer) => return Ok((answer, link)),
            Err(mut error) => match error.take_message() {
                Some(unsent) => request = unsent,
                // Something came that cannot be read, so the mediator has seen the request.
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

/// A copy of a request that may be sent again when the connection ends without an answer: the
/// mediator closed it while idle, and never saw the request.
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
