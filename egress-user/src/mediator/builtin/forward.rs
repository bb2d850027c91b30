//! Absolute-form requests: `GET http://host/…`, sent on to the origin and streamed back.
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HOST, HeaderValue};
use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::admit::{self, Admitted};
use super::body::{Ending, MeteredBody, UploadBody};
use super::dial::dial;
use super::headers::{remove_hop_by_hop, remove_private};
use super::meter::Meter;
use super::recorder::Facts;
use super::reply::{self, Payload, Refusal};
use super::server::Mediator;
use super::target::Destination;
use crate::receipt::record::{ActionType, Transport};

/// Longest URL that is sent on; it is repeated in two receipts.
const MAX_URL: usize = 8 << 10;

/// Answers an absolute-form request with the origin's answer.
pub(super) async fn forward(
    mediator: Arc<Mediator>,
    request: Request<Incoming>,
) -> Response<Payload> {
    let is_http = request.uri().scheme() == Some(&Scheme::HTTP);
    let to = match Destination::of(request.uri(), if is_http { 80 } else { 443 }) {
        Ok(to) => to,
        Err(error) => return reply::text(StatusCode::BAD_REQUEST, &format!("{error}\n")),
    };
    if !mediator.policy.forward.enabled {
        return reply::text(StatusCode::NOT_FOUND, "forward_proxy is not enabled\n");
    }
    let mut facts = Facts {
        transport: Transport::Forward,
        action_type: ActionType::for_method(request.method().as_str()),
        method: request.method().to_string(),
        target: request.uri().to_string(),
        request_id: mediator.next_request_id(),
    };
    if facts.target.len() > MAX_URL {
        let length = facts.target.len();
        facts.target = format!("http://{to}/");
        let refusal = Refusal {
            status: StatusCode::URI_TOO_LONG,
            layer: "length",
            reason: "url_too_long",
            text: format!("URL length {length} exceeds maximum {MAX_URL}"),
        };
        return admit::refuse(&mediator, &facts, &refusal);
    }
    if !is_http {
        let scheme = request.uri().scheme_str().unwrap_or_default();
        let refusal = Refusal::forbidden(
            "scheme",
            "scheme_not_allowed",
            format!("scheme \"{scheme}\" not allowed in absolute form: only http"),
        );
        return admit::refuse(&mediator, &facts, &refusal);
    }
    let Admitted { addresses, intent } = match admit::admit(&mediator, &to, facts).await {
        Ok(admitted) => admitted,
        Err(answer) => return answer,
    };
    let bad_gateway = StatusCode::BAD_GATEWAY;
    let Ok(origin) = dial(&addresses).await else {
        intent.finish(bad_gateway.as_u16(), 0, "dial_failed");
        return reply::text(bad_gateway, "forward proxy dial failed\n");
    };
    let meter = Arc::new(Meter::new());
    let answer = match exchange(&mediator, origin, request, &meter).await {
        Ok(answer) => answer,
        Err(reason) => {
            intent.finish(bad_gateway.as_u16(), meter.bytes(), reason);
            return reply::text(bad_gateway, "forward proxy fetch failed\n");
        }
    };
    let status = answer.status();
    let most = mediator.policy.fetch.max_response_bytes;
    if most.is_some_and(|most| content_length(&answer).is_some_and(|length| length > most)) {
        intent.finish(status.as_u16(), meter.bytes(), "oversized");
        return reply::text(
            bad_gateway,
            "the answer exceeds fetch_proxy.max_response_mb\n",
        );
    }
    let (mut parts, body) = answer.into_parts();
    remove_hop_by_hop(&mut parts.headers);
    let ending = Ending {
        status: status.as_u16(),
        intent,
        active: mediator.gauge.enter(),
    };
    let idle = mediator.policy.forward.idle_timeout;
    let body = MeteredBody::new(body, meter, idle, most, ending);
    parts.version = Version::HTTP_11;
    Response::from_parts(parts, Payload::Stream(Box::new(body)))
}

/// Sends the request and waits for the head of the answer.
async fn exchange(
    mediator: &Mediator,
    origin: TcpStream,
    request: Request<Incoming>,
    meter: &Arc<Meter>,
) -> Result<Response<Incoming>, &'static str> {
    let outgoing = outgoing(request, meter)?;
    let (mut sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(origin))
        .await
        .map_err(|_refused| "fetch_failed")?;
    // Ends with the answer's body. What goes wrong there is also told to whoever waits for it.
    tokio::spawn(async move { drop(connection.await) });
    tokio::select! {
        biased;
        answer = sender.send_request(outgoing) => match answer {
            // Nobody asked for another protocol, and nobody would speak it.
            Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => Err("fetch_failed"),
            Ok(answer) => Ok(answer),
            Err(_failed) => Err("fetch_failed"),
        },
        () = meter.idle(mediator.policy.fetch.timeout) => Err("timeout"),
    }
}

/// The request as the origin gets it.
fn outgoing(
    request: Request<Incoming>,
    meter: &Arc<Meter>,
) -> Result<Request<UploadBody>, &'static str> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().ok_or("fetch_failed")?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_odd| "fetch_failed")?;
    remove_hop_by_hop(&mut parts.headers);
    remove_private(&mut parts.headers);
    parts.headers.insert(HOST, host);
    parts.uri = origin_form(&parts.uri);
    parts.version = Version::HTTP_11;
    Ok(Request::from_parts(
        parts,
        UploadBody::new(body, Arc::clone(meter)),
    ))
}

/// Path and query alone.
pub(super) fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query()
        .cloned()
        .map_or_else(|| Uri::from_static("/"), Uri::from)
}

fn content_length(answer: &Response<Incoming>) -> Option<u64> {
    let value = answer.headers().get(CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}
