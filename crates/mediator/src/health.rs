//! Answers `/health` in Pipelock's format.
use http::{Response, StatusCode};
use serde::Serialize;

use super::reply::{self, Payload};
use super::state::BuiltinMediator;

#[derive(Debug, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the members of Pipelock's answer"
)]
struct Health<'a> {
    status: &'a str,
    version: &'a str,
    mode: &'a str,
    uptime_seconds: u64,
    dlp_patterns: u64,
    response_scan_enabled: bool,
    git_protection_enabled: bool,
    rate_limit_enabled: bool,
    forward_proxy_enabled: bool,
    websocket_proxy_enabled: bool,
    kill_switch_active: bool,
}

/// Returns 200, or 503 once receipts cannot be written.
pub(super) fn answer(mediator: &BuiltinMediator) -> Response<Payload> {
    let healthy = mediator.ledger.failed().is_none();
    let health = Health {
        status: if healthy { "healthy" } else { "unhealthy" },
        version: concat!("egress-", env!("CARGO_PKG_VERSION")),
        mode: "strict",
        uptime_seconds: mediator.started.elapsed().as_secs(),
        dlp_patterns: 0,
        response_scan_enabled: false,
        git_protection_enabled: false,
        rate_limit_enabled: false,
        forward_proxy_enabled: mediator.policy.forward.enabled,
        websocket_proxy_enabled: mediator.policy.websocket.enabled,
        kill_switch_active: false,
    };
    let status = if healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    match serde_json::to_string(&health) {
        Ok(text) => reply::json(status, &text),
        Err(_) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, "no health\n"),
    }
}
