//! Decides on each request for a destination in the same order: first the allow-list, then the addresses. The mediator
//! connects only after a receipt of the intent is durable.
use std::net::SocketAddr;

use http::Response;

use super::judge;
use super::recorder::{Facts, Intent};
use super::reply::{self, Payload, Refusal};
use super::state::BuiltinMediator;
use super::target::Destination;

/// An allowed and recorded request.
pub(super) struct Admitted {
    /// The addresses that were judged. The mediator connects only to these.
    pub(super) addresses: Vec<SocketAddr>,
    /// The recorded intent of the action.
    pub(super) intent: Intent,
}

/// Judges `to` and records the decision.
///
/// # Errors
/// Returns the answer for the client if the request is denied or a receipt cannot be written. A
/// denial is recorded first.
pub(super) async fn admit(
    mediator: &BuiltinMediator,
    to: &Destination,
    facts: Facts,
) -> Result<Admitted, Response<Payload>> {
    if let Err(refusal) = judge::name(&mediator.policy, to) {
        return Err(refuse(mediator, &facts, &refusal));
    }
    let found = judge::addresses(
        &mediator.policy,
        mediator.resolver.as_ref(),
        &mediator.routes,
        to,
    )
    .await;
    let addresses = match found {
        Ok(addresses) => addresses,
        Err(refusal) => return Err(refuse(mediator, &facts, &refusal)),
    };
    match mediator.ledger.intent(facts).await {
        Ok(intent) => Ok(Admitted { addresses, intent }),
        Err(_kept_by_the_ledger) => Err(reply::emission_failed()),
    }
}

/// Records a denial and returns its page. If the receipt cannot be written, returns the page for
/// that failure.
pub(super) fn refuse(
    mediator: &BuiltinMediator,
    facts: &Facts,
    refusal: &Refusal,
) -> Response<Payload> {
    match mediator.ledger.block(facts, refusal.layer, &refusal.text) {
        Ok(()) => refusal.page(),
        Err(_kept_by_the_ledger) => reply::emission_failed(),
    }
}
