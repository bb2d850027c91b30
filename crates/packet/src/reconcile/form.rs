//! What the members of a receipt are that follow from other members of it.
use pipelock_receipts::record::ActionType;

use super::receipt::Receipt;

/// Whether type and side effects of an action are those of its method.
pub(super) fn is_classified(receipt: &Receipt<'_>) -> bool {
    let class = class(receipt);
    receipt.action_type == class.as_str() && receipt.side_effects == class.side_effect_class()
}

/// Whether the built-in mediator writes such receipts.
pub(super) fn is_builtin(receipt: &Receipt<'_>) -> bool {
    let has_user = receipt
        .target
        .split_once("://")
        .and_then(|(_, rest)| rest.split(['/', '?', '#']).next())
        .is_some_and(|authority| authority.contains('@'));
    let fits = match (receipt.phase, receipt.verdict) {
        ("intent", "allow") => receipt.layer.is_empty(),
        ("outcome", "allow") => receipt.layer == "outcome",
        ("", "block") => !receipt.layer.is_empty(),
        _ => false,
    };
    let has_method = match receipt.transport {
        "connect" => receipt.method == "CONNECT",
        "websocket" => receipt.method == "WS",
        _ => true,
    };
    let is_classified =
        is_classified(receipt) && receipt.reversibility == class(receipt).reversibility();
    fits && has_method && is_classified && !has_user && !receipt.policy_hash.is_empty()
}

fn class(receipt: &Receipt<'_>) -> ActionType {
    ActionType::for_method(receipt.method)
}
