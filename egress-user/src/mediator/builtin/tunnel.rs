//! `CONNECT`: a tunnel for TLS to the host that was asked for.
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::admit::{self, Admitted};
use super::copy::{Limits, both_ways};
use super::dial::dial;
use super::hello;
use super::meter::Meter;
use super::recorder::{Facts, Intent};
use super::reply::{self, Payload};
use super::server::Mediator;
use super::target::{Destination, TargetError};
use crate::policy::Host;
use crate::receipt::record::{ActionType, Transport};

/// Answers a CONNECT; the tunnel then runs by itself.
pub(super) async fn connect(
    mediator: Arc<Mediator>,
    request: Request<Incoming>,
) -> Response<Payload> {
    let to = match destination(&request) {
        Ok(to) => to,
        Err(error) => return reply::text(StatusCode::BAD_REQUEST, &format!("{error}\n")),
    };
    let headers = request.headers();
    if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
        return reply::text(StatusCode::BAD_REQUEST, "a CONNECT has no body\n");
    }
    if !mediator.policy.forward.enabled {
        return reply::text(StatusCode::NOT_FOUND, "forward_proxy is not enabled\n");
    }
    let Ok(permit) = Arc::clone(&mediator.tunnels).try_acquire_owned() else {
        return reply::text(StatusCode::SERVICE_UNAVAILABLE, "too many active tunnels\n");
    };
    let facts = Facts {
        transport: Transport::Connect,
        action_type: ActionType::Read,
        method: String::from("CONNECT"),
        target: format!("https://{to}/"),
        request_id: mediator.next_request_id(),
    };
    let Admitted { addresses, intent } = match admit::admit(&mediator, &to, facts).await {
        Ok(admitted) => admitted,
        Err(answer) => return answer,
    };
    let origin = match dial(&addresses).await {
        Ok(origin) => origin,
        Err(_unreachable) => {
            let status = StatusCode::BAD_GATEWAY;
            intent.finish(status.as_u16(), 0, "dial_failed");
            return reply::text(status, "tunnel dial failed\n");
        }
    };
    let upgrade = hyper::upgrade::on(request);
    let active = mediator.gauge.enter();
    tokio::spawn(async move {
        let phases = mediator.phases.clone();
        let tunnel = carry(&mediator, upgrade, origin, &to.host, intent);
        tokio::select! {
            biased;
            () = tunnel => {}
            () = phases.cut() => {}
        }
        drop((permit, active));
    });
    reply::empty(StatusCode::OK)
}

fn destination(request: &Request<Incoming>) -> Result<Destination, TargetError> {
    let uri = request.uri();
    if uri.scheme().is_some() || uri.path_and_query().is_some() {
        return Err(TargetError::NoAuthority);
    }
    Destination::of(uri, 443)
}

/// Checks what the client says first, then copies until the end, and records it.
async fn carry(
    mediator: &Mediator,
    upgrade: OnUpgrade,
    mut origin: TcpStream,
    host: &Host,
    intent: Intent,
) {
    let status = StatusCode::OK.as_u16();
    let Some((mut client, mut first)) = taken_over(upgrade).await else {
        intent.finish(status, 0, "client_closed");
        return;
    };
    let policy = &mediator.policy.forward;
    if policy.sni_verification
        && let Err(reason) = hello::check(&mut client, &mut first, host).await
    {
        intent.finish(status, 0, reason);
        return;
    }
    let meter = Meter::new();
    if origin.write_all(&first).await.is_err() {
        intent.finish(status, 0, "reset");
        return;
    }
    meter.moved(first.len());
    drop(first);
    let limits = Limits {
        idle: policy.idle_timeout,
        total: policy.max_tunnel,
    };
    let reason = both_ways(&mut client, &mut origin, &meter, limits, &mediator.phases).await;
    intent.finish(status, meter.bytes(), reason);
}

/// How long a client may take to read the answer that makes its connection a tunnel.
const UPGRADE_LIMIT: Duration = Duration::from_secs(5);

/// The connection behind an upgrade, with what was read from it beyond the head.
pub(super) async fn taken_over(upgrade: OnUpgrade) -> Option<(TcpStream, Vec<u8>)> {
    let upgraded: Upgraded = timeout(UPGRADE_LIMIT, upgrade).await.ok()?.ok()?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf.to_vec()))
}
