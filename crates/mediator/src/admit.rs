//! The order in which every request is decided: list, addresses, durable intent. Only then is
//! anything dialled.
use std::net::SocketAddr;

use http::Response;

use super::judge;
use super::recorder::{Facts, Intent};
use super::reply::{self, Payload, Refusal};
use super::state::Mediator;
use super::target::Destination;

/// A request that may be carried out, and is on record.
pub(super) struct Admitted {
    /// Judged addresses, to be dialled and no other.
    pub(super) addresses: Vec<SocketAddr>,
    /// The open action.
    pub(super) intent: Intent,
}

/// Decides about `to` and records the decision.
///
/// # Errors
/// The answer for the client, after the refusal is on record.
pub(super) async fn admit(
    mediator: &Mediator,
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

/// Records a refusal and gives its page; without a receipt, the page of a failed one.
pub(super) fn refuse(mediator: &Mediator, facts: &Facts, refusal: &Refusal) -> Response<Payload> {
    match mediator.ledger.block(facts, refusal.layer, &refusal.text) {
        Ok(()) => refusal.page(),
        Err(_kept_by_the_ledger) => reply::emission_failed(),
    }
}
