//! `CONNECT`: opens a tunnel for TLS to the requested host.
use std::sync::Arc;
use std::time::Duration;

use egress_policy::Host;
use egress_policy::redact;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use pipelock_receipts::record::{ActionType, Transport};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::admit::{self, Admitted};
use super::body::RequestBody;
use super::copy::{Limits, both_ways, write};
use super::dial::dial;
use super::forward::disabled;
use super::hello;
use super::recorder::{Facts, Intent};
use super::reply::{self, Payload, Refusal};
use super::state::BuiltinMediator;
use super::target::{Destination, TargetError};

/// Answers a CONNECT and starts a task for the tunnel.
pub(super) async fn connect(
    mediator: Arc<BuiltinMediator>,
    request: Request<RequestBody>,
) -> Response<Payload> {
    let mut facts = Facts {
        transport: Transport::Connect,
        action_type: ActionType::Read,
        method: String::from("CONNECT"),
        target: String::new(),
        request_id: mediator.next_request_id(),
    };
    let to = match destination(&request) {
        Ok(to) => to,
        Err(error) => {
            let refusal = Refusal::malformed(error);
            // Without an authority, there is no target for a receipt.
            let Some(authority) = request.uri().authority() else {
                return refusal.page();
            };
            let authority = redact::target(authority.as_str(), &mediator.secrets.redaction_key);
            facts.target = format!("https://{authority}/");
            return admit::refuse(&mediator, &facts, &refusal);
        }
    };
    facts.target = format!("https://{to}/");
    let headers = request.headers();
    if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
        let refusal = Refusal::unserved(
            StatusCode::BAD_REQUEST,
            "target",
            "connect_with_body",
            String::from("a CONNECT has no body"),
        );
        return admit::refuse(&mediator, &facts, &refusal);
    }
    if !mediator.policy.forward.enabled {
        return admit::refuse(&mediator, &facts, &disabled());
    }
    // No receipt is written, because the relay repeats the CONNECT until the mediator has a free place, and all
    // repetitions belong to one request.
    let Ok(permit) = Arc::clone(&mediator.tunnels).try_acquire_owned() else {
        return reply::text(StatusCode::SERVICE_UNAVAILABLE, "too many active tunnels\n");
    };
    let Admitted {
        addresses,
        mut intent,
    } = match admit::admit(&mediator, &to, facts).await {
        Ok(admitted) => admitted,
        Err(answer) => return answer,
    };
    let origin = match dial(&addresses).await {
        Ok(origin) => origin,
        Err(_unreachable) => {
            let status = StatusCode::BAD_GATEWAY;
            intent.finish(status.as_u16(), "dial_failed");
            return reply::text(status, "tunnel dial failed\n");
        }
    };
    let status = StatusCode::OK;
    intent.status(status.as_u16());
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
    reply::empty(status)
}

fn destination<B>(request: &Request<B>) -> Result<Destination, TargetError> {
    let uri = request.uri();
    if uri.scheme().is_some() || uri.path_and_query().is_some() {
        return Err(TargetError::NoAuthority);
    }
    Destination::of(uri, 443)
}

/// Checks the client's first bytes if the policy requires it, copies until both sides end or a limit is reached, and
/// records the outcome.
async fn carry(
    mediator: &BuiltinMediator,
    upgrade: OnUpgrade,
    mut origin: TcpStream,
    host: &Host,
    intent: Intent,
) {
    let Some((mut client, mut first)) = taken_over(upgrade).await else {
        intent.finish_as("client_closed");
        return;
    };
    let policy = &mediator.policy.forward;
    if policy.sni_verification
        && let Err(reason) = hello::check(&mut client, &mut first, host).await
    {
        intent.finish_as(reason);
        return;
    }
    let meter = intent.meter();
    if write(&mut origin, &first, &meter).await.is_err() {
        intent.finish_as("reset");
        return;
    }
    drop(first);
    let limits = Limits {
        idle: policy.idle_timeout,
        total: policy.max_tunnel,
    };
    let reason = both_ways(&mut client, &mut origin, &meter, limits, &mediator.phases).await;
    intent.finish_as(reason);
}

/// Time for a client to read the answer that turns its connection into a tunnel.
const UPGRADE_LIMIT: Duration = Duration::from_secs(5);

/// Returns the connection of an upgrade, with the bytes that were read after the head.
pub(super) async fn taken_over(upgrade: OnUpgrade) -> Option<(TcpStream, Vec<u8>)> {
    let upgraded: Upgraded = timeout(UPGRADE_LIMIT, upgrade).await.ok()?.ok()?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf.to_vec()))
}
