//! Serves absolute-form requests (`GET http://host/…`): sends each allowed request to its origin and streams the answer
//! back.
use std::sync::Arc;

use egress_http::length;
use egress_http::read_on::ReadOn;
use egress_policy::redact;
use http::header::{CONTENT_LENGTH, HOST, HeaderValue};
use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pipelock_receipts::record::{ActionType, Transport};
use tokio::net::TcpStream;

use super::admit::{self, Admitted};
use super::body::{Ending, MeteredBody, OriginTask, RequestBody};
use super::dial::dial;
use super::headers::{remove_claims, remove_hop_by_hop, remove_private};
use super::meter::Meter;
use super::recorder::Facts;
use super::reply::{self, Payload, Refusal};
use super::state::BuiltinMediator;
use super::target::Destination;

/// Maximum length of a URL in bytes. Two receipts contain the URL of an allowed request.
const MAX_URL: usize = 8 << 10;

/// Answers an absolute-form request with the origin's answer, or with a denial.
pub(super) async fn forward(
    mediator: Arc<BuiltinMediator>,
    request: Request<RequestBody>,
) -> Response<Payload> {
    let is_http = request.uri().scheme() == Some(&Scheme::HTTP);
    let url = request.uri().to_string();
    let facts = Facts {
        transport: Transport::Forward,
        action_type: ActionType::for_method(request.method().as_str()),
        method: request.method().to_string(),
        target: redact::target(&url, &mediator.secrets.redaction_key),
        request_id: mediator.next_request_id(),
    };
    let refuse = |refusal: &Refusal| admit::refuse(&mediator, &facts, refusal);
    let to = match Destination::of(request.uri(), if is_http { 80 } else { 443 }) {
        Ok(to) => to,
        Err(error) => return refuse(&Refusal::malformed(error)),
    };
    if !mediator.policy.forward.enabled {
        return refuse(&disabled());
    }
    if url.len() > MAX_URL {
        return refuse(&Refusal::unserved(
            StatusCode::URI_TOO_LONG,
            "length",
            "url_too_long",
            format!("URL length {} exceeds maximum {MAX_URL}", url.len()),
        ));
    }
    if !is_http {
        let scheme = request.uri().scheme_str().unwrap_or_default();
        return refuse(&Refusal::forbidden(
            "scheme",
            "scheme_not_allowed",
            format!("scheme \"{scheme}\" not allowed in absolute form: only http"),
        ));
    }
    let Admitted {
        addresses,
        mut intent,
    } = match admit::admit(&mediator, &to, facts).await {
        Ok(admitted) => admitted,
        Err(answer) => return answer,
    };
    let bad_gateway = StatusCode::BAD_GATEWAY;
    let Ok(origin) = dial(&addresses).await else {
        intent.finish(bad_gateway.as_u16(), "dial_failed");
        return reply::text(bad_gateway, "forward proxy dial failed\n");
    };
    let upload = request.body().whole();
    let (answer, task) = match exchange(&mediator, origin, request, &intent.meter()).await {
        Ok(exchanged) => exchanged,
        Err(reason) => {
            intent.finish(bad_gateway.as_u16(), reason);
            return reply::text(bad_gateway, "forward proxy fetch failed\n");
        }
    };
    let status = answer.status();
    let most = mediator.policy.fetch.max_response_bytes;
    if most.is_some_and(|most| content_length(&answer).is_some_and(|length| length > most)) {
        intent.finish(bad_gateway.as_u16(), "oversized");
        return reply::text(
            bad_gateway,
            "the answer exceeds fetch_proxy.max_response_mb\n",
        );
    }
    intent.status(status.as_u16());
    let (mut parts, body) = answer.into_parts();
    length::settle(&mut parts.headers, body.size_hint().exact());
    remove_hop_by_hop(&mut parts.headers);
    remove_claims(&mut parts.headers);
    let ending = Ending {
        intent,
        upload: Some(upload),
        origin: Some(task),
        active: mediator.gauge.enter(),
    };
    let idle = mediator.policy.forward.idle_timeout;
    let body = MeteredBody::new(body, idle, most, ending);
    parts.version = Version::HTTP_11;
    Response::from_parts(parts, Payload::Stream(Box::new(body)))
}

/// Returns the denial of a policy without `forward_proxy`.
pub(super) fn disabled() -> Refusal {
    Refusal::unserved(
        StatusCode::NOT_FOUND,
        "forward_proxy",
        "forward_proxy_disabled",
        String::from("forward_proxy is not enabled"),
    )
}

/// Sends the request, waits for the head of the answer, and returns the answer with the connection to the origin. An
/// error is the reason word of the outcome.
async fn exchange(
    mediator: &BuiltinMediator,
    origin: TcpStream,
    request: Request<RequestBody>,
    meter: &Arc<Meter>,
) -> Result<(Response<Incoming>, OriginTask), &'static str> {
    let outgoing = outgoing(request, meter)?;
    let (mut sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(ReadOn::new(origin)))
        .await
        .map_err(|_refused| "fetch_failed")?;
    let task = OriginTask::spawn(connection);
    tokio::select! {
        biased;
        answer = sender.send_request(outgoing) => match answer {
            // The request did not offer another protocol, so this answer is an error.
            Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => Err("fetch_failed"),
            Ok(answer) => Ok((answer, task)),
            Err(_failed) => Err("fetch_failed"),
        },
        () = meter.idle(mediator.policy.fetch.timeout) => Err("timeout"),
    }
}

/// Returns the request as it is sent to the origin.
fn outgoing(
    request: Request<RequestBody>,
    meter: &Arc<Meter>,
) -> Result<Request<RequestBody>, &'static str> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().ok_or("fetch_failed")?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_odd| "fetch_failed")?;
    remove_hop_by_hop(&mut parts.headers);
    remove_private(&mut parts.headers);
    parts.headers.insert(HOST, host);
    parts.uri = origin_form(&parts.uri);
    parts.version = Version::HTTP_11;
    Ok(Request::from_parts(parts, body.counted(Arc::clone(meter))))
}

/// Returns path and query. A URL without a path becomes `/` (RFC 9112, section 3.2.1).
pub(super) fn origin_form(uri: &Uri) -> Uri {
    let path = match uri.path() {
        "" => "/",
        path => path,
    };
    let form = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    form.parse().unwrap_or_else(|_| Uri::from_static("/"))
}

fn content_length(answer: &Response<Incoming>) -> Option<u64> {
    let value = answer.headers().get(CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}
