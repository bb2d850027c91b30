//! `/ws?url=ws://…`: passes the client's handshake on to the origin.
use std::sync::Arc;

use bytes::Bytes;
use egress_http::length;
use egress_policy::redact;
use http::header::{CONNECTION, HOST, HeaderMap, HeaderValue, UPGRADE};
use http::{Extensions, Method, Request, Response, StatusCode, Version};
use http_body_util::Empty;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pipelock_receipts::record::{ActionType, Transport};
use tokio::net::TcpStream;

use super::admit::{self, Admitted};
use super::body::{Ending, MeteredBody, RequestBody};
use super::copy::{Limits, both_ways, write};
use super::dial::dial;
use super::forward::origin_form;
use super::headers::{remove_claims, remove_hop_by_hop, remove_private};
use super::meter::Meter;
use super::recorder::{Facts, Intent};
use super::reply::{self, Payload, Refusal};
use super::state::BuiltinMediator;
use super::target::{Destination, url_parameter};
use super::tunnel::taken_over;

/// Answers `/ws` with the origin's answer to the same handshake.
pub(super) async fn open(
    mediator: Arc<BuiltinMediator>,
    request: Request<RequestBody>,
) -> Response<Payload> {
    let bad_request = |what: &str| reply::text(StatusCode::BAD_REQUEST, &format!("{what}\n"));
    let url = match request.uri().path_and_query().map(url_parameter) {
        Some(Ok(url)) => url,
        Some(Err(error)) => return bad_request(&error.to_string()),
        None => return bad_request("the request has no url parameter"),
    };
    let facts = Facts {
        transport: Transport::WebSocket,
        action_type: ActionType::Unclassified,
        method: String::from("WS"),
        target: redact::target(&url.to_string(), &mediator.secrets.redaction_key),
        request_id: mediator.next_request_id(),
    };
    let refuse = |refusal: &Refusal| admit::refuse(&mediator, &facts, refusal);
    if !mediator.policy.websocket.enabled {
        return refuse(&Refusal::unserved(
            StatusCode::NOT_FOUND,
            "websocket_proxy",
            "websocket_proxy_disabled",
            String::from("websocket_proxy is not enabled"),
        ));
    }
    let scheme = url.scheme_str().unwrap_or_default();
    if !matches!(scheme, "ws" | "wss") {
        return bad_request("the url must be ws:// or wss://");
    }
    let to = match Destination::of(&url, if scheme == "ws" { 80 } else { 443 }) {
        Ok(to) => to,
        Err(error) => return refuse(&Refusal::malformed(error)),
    };
    if request.method() != Method::GET || !requests_websocket(request.headers()) {
        return bad_request("the request is not a WebSocket handshake");
    }
    if scheme == "wss" {
        // A client can use TLS in a tunnel instead.
        return refuse(&Refusal::forbidden(
            "scheme",
            "scheme_not_allowed",
            String::from("scheme \"wss\" not allowed in /ws: use CONNECT"),
        ));
    }
    let Ok(permit) = Arc::clone(&mediator.websockets).try_acquire_owned() else {
        return refuse(&Refusal::unserved(
            StatusCode::SERVICE_UNAVAILABLE,
            "capacity",
            "too_many_websockets",
            String::from("too many active websocket connections"),
        ));
    };
    let Admitted {
        addresses,
        mut intent,
    } = match admit::admit(&mediator, &to, facts).await {
        Ok(admitted) => admitted,
        Err(answer) => return answer,
    };
    let bad_gateway = StatusCode::BAD_GATEWAY;
    let Ok(origin) = dial(&addresses).await else {
        intent.finish(bad_gateway.as_u16(), "upstream_dial_failed");
        return reply::text(bad_gateway, "upstream dial failed\n");
    };
    let Some(handshake) = handshake(&request, &url) else {
        intent.finish(StatusCode::BAD_REQUEST.as_u16(), "fetch_failed");
        return bad_request("the handshake cannot be forwarded");
    };
    let mut answer = match send(&mediator, origin, handshake).await {
        Ok(answer) => answer,
        Err(reason) => {
            intent.finish(bad_gateway.as_u16(), reason);
            return reply::text(bad_gateway, "upstream handshake failed\n");
        }
    };
    intent.status(answer.status().as_u16());
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return refused_by_origin(&mediator, answer, intent);
    }
    let origin_side = hyper::upgrade::on(&mut answer);
    let client_side = hyper::upgrade::on(request);
    let active = mediator.gauge.enter();
    tokio::spawn(async move {
        let phases = mediator.phases.clone();
        tokio::select! {
            biased;
            () = carry(&mediator, client_side, origin_side, intent) => {}
            () = phases.cut() => {}
        }
        drop((permit, active));
    });
    let mut response = Response::new(Payload::Switched);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = upgrade_headers(answer.headers());
    *response.extensions_mut() = spelling(answer.extensions());
    response
}

async fn send(
    mediator: &BuiltinMediator,
    origin: TcpStream,
    handshake: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, &'static str> {
    let (mut sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(origin))
        .await
        .map_err(|_refused| "fetch_failed")?;
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    let meter = Meter::new();
    tokio::select! {
        biased;
        answer = sender.send_request(handshake) => answer.map_err(|_failed| "fetch_failed"),
        () = meter.idle(mediator.policy.fetch.timeout) => Err("timeout"),
    }
}

/// Passes on the answer of an origin that does not accept the WebSocket.
fn refused_by_origin(
    mediator: &BuiltinMediator,
    answer: Response<Incoming>,
    intent: Intent,
) -> Response<Payload> {
    let (mut parts, body) = answer.into_parts();
    length::settle(&mut parts.headers, body.size_hint().exact());
    remove_hop_by_hop(&mut parts.headers);
    remove_claims(&mut parts.headers);
    let ending = Ending {
        intent,
        upload: None,
        origin: None,
        active: mediator.gauge.enter(),
    };
    let idle = mediator.policy.forward.idle_timeout;
    let body = MeteredBody::new(body, idle, None, ending);
    parts.version = Version::HTTP_11;
    Response::from_parts(parts, Payload::Stream(Box::new(body)))
}

async fn carry(mediator: &BuiltinMediator, client: OnUpgrade, origin: OnUpgrade, intent: Intent) {
    let meter = intent.meter();
    let (Some((mut client, from_client)), Some((mut origin, from_origin))) =
        tokio::join!(taken_over(client), taken_over(origin))
    else {
        intent.finish_as("client_closed");
        return;
    };
    let early = tokio::try_join!(
        write(&mut origin, &from_client, &meter),
        write(&mut client, &from_origin, &meter)
    );
    if early.is_err() {
        intent.finish_as("reset");
        return;
    }
    let limits = Limits {
        idle: mediator.policy.websocket.idle_timeout,
        total: Some(mediator.policy.websocket.max_connection),
    };
    let reason = both_ways(&mut client, &mut origin, &meter, limits, &mediator.phases).await;
    intent.finish_as(reason);
}

fn requests_websocket(headers: &HeaderMap) -> bool {
    let has = |name, wanted: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(wanted))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

fn handshake<B>(request: &Request<B>, url: &http::Uri) -> Option<Request<Empty<Bytes>>> {
    let mut headers = request.headers().clone();
    remove_hop_by_hop(&mut headers);
    remove_private(&mut headers);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let authority = url.authority()?;
    headers.insert(HOST, HeaderValue::from_str(authority.as_str()).ok()?);
    let mut handshake = Request::new(Empty::new());
    *handshake.uri_mut() = origin_form(url);
    *handshake.headers_mut() = headers;
    *handshake.extensions_mut() = spelling(request.extensions());
    Some(handshake)
}

/// Returns the extensions with the original spelling of the header names, because some servers accept
/// `Sec-WebSocket-Key` only in exactly this spelling.
fn spelling(extensions: &Extensions) -> Extensions {
    let mut spelling = extensions.clone();
    spelling.remove::<OnUpgrade>();
    spelling
}

/// Returns the origin's headers with the two fields that switch the protocol.
fn upgrade_headers(origin: &HeaderMap) -> HeaderMap {
    let mut headers = origin.clone();
    remove_hop_by_hop(&mut headers);
    remove_claims(&mut headers);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers
}
