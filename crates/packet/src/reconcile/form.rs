//! What the members of a receipt are that follow from other members of it.
use pipelock_receipts::check::Seen;
use pipelock_receipts::record::ActionType;

use super::receipt::Receipt;

/// For whom the built-in mediator acts.
const PRINCIPAL: &str = "local";

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
    let is_whole = receipt.principal == PRINCIPAL && !receipt.policy_hash.is_empty();
    fits && has_method && is_classified && !has_user && is_whole
}

/// Whether a mediator writes such session records.
pub(super) fn is_session(seen: &Seen<'_>) -> bool {
    seen.text("verdict") == "allow"
        && seen.text("transport") == "receipt_session"
        && seen.text("target").strip_prefix("pipelock://session/") == Some(seen.session_kind())
}

/// Whether such session records are the built-in mediator's.
pub(super) fn is_builtin_session(seen: &Seen<'_>) -> bool {
    let class = ActionType::Unclassified;
    [
        ("action_type", class.as_str()),
        ("side_effect_class", class.side_effect_class()),
        ("reversibility", class.reversibility()),
        ("principal", PRINCIPAL),
        ("actor", "pipelock"),
    ]
    .iter()
    .all(|(name, text)| seen.text(name) == *text)
        && !seen.text("policy_hash").is_empty()
}

fn class(receipt: &Receipt<'_>) -> ActionType {
    ActionType::for_method(receipt.method)
}
