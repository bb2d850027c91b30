//! Checks the members of a receipt that follow from its other members.
use pipelock_receipts::check::Seen;
use pipelock_receipts::record::ActionType;

use super::receipt::{CLOSE_LAYER, FRAME_LAYERS, OUTCOME_LAYER, Receipt};

/// The principal in receipts of every mediator.
const PRINCIPAL: &str = "local";

/// Whether the method belongs to the transport. Pipelock may sign the denial of a WebSocket with the method of its
/// handshake.
pub(super) fn has_method(receipt: &Receipt<'_>) -> bool {
    match receipt.transport {
        "connect" => receipt.method == "CONNECT",
        "websocket" if receipt.verdict == "allow" => receipt.method == "WS",
        _ => true,
    }
}

/// Whether type and side effects of an action belong to its method. Pipelock before 3.0 does not
/// support QUERY.
pub(super) fn is_classified(receipt: &Receipt<'_>) -> bool {
    let is = |class: ActionType| {
        receipt.action_type == class.as_str() && receipt.side_effects == class.side_effect_class()
    };
    is(class(receipt)) || (receipt.method == "QUERY" && is(ActionType::Unclassified))
}

/// Whether the built-in mediator writes receipts of this form.
pub(super) fn is_builtin(receipt: &Receipt<'_>) -> bool {
    let has_user = receipt
        .target
        .split_once("://")
        .and_then(|(_, rest)| rest.split(['/', '?', '#']).next())
        .is_some_and(|authority| authority.contains('@'));
    let fits = match (receipt.phase, receipt.verdict) {
        ("intent", "allow") => receipt.layer.is_empty(),
        ("outcome", "allow") => receipt.layer == OUTCOME_LAYER,
        ("", "block") => !receipt.layer.is_empty() && receipt.layer != CLOSE_LAYER,
        _ => false,
    };
    let has_method = match receipt.transport {
        "websocket" => receipt.method == "WS",
        _ => has_method(receipt),
    };
    let is_classified =
        is_classified(receipt) && receipt.reversibility == class(receipt).reversibility();
    let is_whole =
        receipt.principal == PRINCIPAL && !receipt.policy_hash.is_empty() && !receipt.is_delegated;
    fits && has_method && is_classified && !has_user && is_whole
}

/// Whether a Pipelock writes receipts of this form. Pipelock before 3.0 does not support QUERY.
pub(super) fn is_pipelock(receipt: &Receipt<'_>) -> bool {
    let stated = receipt.reversibility;
    let has_class = match receipt.method {
        "DELETE" => stated == "irreversible",
        "QUERY" => ["compensatable", "unknown"].contains(&stated),
        _ => stated == class(receipt).reversibility(),
    };
    has_class && receipt.principal == PRINCIPAL && !receipt.is_delegated
}

/// Whether a Pipelock with sessions writes a receipt with this phase, verdict, and layer. The other
/// allowed receipts of a Pipelock state why it changed or passed on an answer, or that a WebSocket ended.
pub(super) fn is_of_sessions(receipt: &Receipt<'_>) -> bool {
    let is_frame = receipt.transport == "websocket" && FRAME_LAYERS.contains(&receipt.layer);
    match (receipt.phase, receipt.verdict) {
        ("intent", "allow") => receipt.layer.is_empty(),
        ("outcome", "allow") => receipt.layer == OUTCOME_LAYER,
        ("", "allow") => !receipt.layer.is_empty() && !is_frame,
        ("", "block") => !is_frame || receipt.method == "WS",
        _ => false,
    }
}

/// Whether a mediator writes session records of this form.
pub(super) fn is_session(seen: &Seen<'_>) -> bool {
    seen.text("verdict") == "allow"
        && seen.text("transport") == "receipt_session"
        && seen.text("target").strip_prefix("pipelock://session/") == Some(seen.session_kind())
}

/// Whether the built-in mediator writes session records of this form.
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
        && has_own_time(seen)
        && !seen.text("policy_hash").is_empty()
        && ["layer", "method", "pattern", "severity"]
            .iter()
            .all(|name| !seen.has(name))
}

/// Whether a heartbeat states the time of its receipt.
fn has_own_time(seen: &Seen<'_>) -> bool {
    seen.session_kind() != "heartbeat" || seen.heartbeat_time() == seen.text("timestamp")
}

fn class(receipt: &Receipt<'_>) -> ActionType {
    ActionType::for_method(receipt.method)
}

#[cfg(test)]
mod tests {
    use pipelock_receipts::chain::Trust;
    use pipelock_receipts::check::{EvidenceFile, check_evidence_visiting};
    use serde_json::{Value, json};

    use super::*;

    /// Returns whether any mediator writes session records of this form, and whether the built-in
    /// mediator does.
    fn judged(record: &Value) -> [bool; 2] {
        let entry = json!({
            "v": 2, "seq": 0, "ts": "2026-11-24T10:00:00Z", "session_id": "proxy", "type": "action_receipt",
            "prev_hash": "genesis", "hash": "00", "detail": {"action_record": record},
        });
        let line = format!("{entry}\n");
        let file = EvidenceFile {
            name: "evidence.jsonl",
            bytes: line.as_bytes(),
        };
        let mut found = Vec::new();
        let mut visit = |seen: &Seen<'_>| found.push([is_session(seen), is_builtin_session(seen)]);
        check_evidence_visiting(&[file], &Trust::default(), &mut visit);
        *found.first().unwrap()
    }

    #[test]
    fn a_method_is_that_of_its_transport() {
        for (transport, verdict, method, fits) in [
            ("connect", "allow", "CONNECT", true),
            ("connect", "block", "CONNECT", true),
            ("connect", "allow", "GET", false),
            ("connect", "block", "", false),
            ("websocket", "allow", "WS", true),
            ("websocket", "allow", "GET", false),
            // Pipelock may sign the denial of a WebSocket with the method of its handshake.
            ("websocket", "block", "GET", true),
            ("forward", "allow", "GET", true),
            ("intercept", "allow", "GET", true),
        ] {
            let receipt = Receipt {
                transport,
                verdict,
                method,
                ..Receipt::default()
            };
            assert_eq!(has_method(&receipt), fits, "{transport} {verdict} {method}");
        }
    }

    #[test]
    fn a_pipelock_writes_few_words() {
        let honest = Receipt {
            transport: "forward",
            method: "DELETE",
            verdict: "allow",
            phase: "intent",
            reversibility: "irreversible",
            principal: "local",
            ..Receipt::default()
        };
        let judged = |receipt: &Receipt<'_>| [is_pipelock(receipt), is_of_sessions(receipt)];
        assert_eq!(judged(&honest), [true, true]);
        let (method, principal, is_delegated) = ("GET", "alice@example.com", true);
        for receipt in [
            Receipt { method, ..honest },
            Receipt {
                principal,
                ..honest
            },
            Receipt {
                is_delegated,
                ..honest
            },
        ] {
            assert_eq!(judged(&receipt), [false, true]);
        }
        for (transport, phase, verdict, layer, method, fits) in [
            ("forward", "outcome", "allow", "outcome", "GET", true),
            ("forward", "", "block", "allowlist", "GET", true),
            ("websocket", "", "allow", "session_close", "WS", true),
            ("websocket", "", "block", "dlp", "WS", true),
            ("forward", "intent", "warn", "", "GET", false),
            ("forward", "intent", "allow", "dlp", "GET", false),
            ("forward", "outcome", "allow", "dlp", "GET", false),
            ("forward", "other", "allow", "dlp", "GET", false),
            ("forward", "", "allow", "", "GET", false),
            ("forward", "", "ask", "allowlist", "GET", false),
            ("websocket", "", "allow", "dlp", "WS", false),
            ("websocket", "", "warn", "dlp", "WS", false),
            ("websocket", "", "block", "dlp", "DELETE", false),
        ] {
            let receipt = Receipt {
                transport,
                verdict,
                layer,
                phase,
                method,
                ..honest
            };
            assert_eq!(
                is_of_sessions(&receipt),
                fits,
                "{phase} {verdict} {layer} {method}"
            );
        }
    }

    #[test]
    fn a_session_record_has_the_form_in_which_its_mediator_writes_it() {
        let open = json!({
            "verdict": "allow", "transport": "receipt_session", "target": "pipelock://session/open",
            "action_type": "unclassified", "side_effect_class": "none", "reversibility": "unknown",
            "principal": "local", "actor": "pipelock", "policy_hash": "00",
            "session_control": {"kind": "session_open"},
        });
        let with = |member: &str, value: Value| {
            let mut record = open.clone();
            record[member] = value;
            judged(&record)
        };
        assert_eq!(judged(&open), [true, true]);
        for (member, value) in [
            ("verdict", json!("block")),
            ("transport", json!("forward")),
            ("target", json!("pipelock://session/close")),
            ("session_control", json!({"kind": "session_close"})),
        ] {
            assert_eq!(with(member, value), [false, true], "{member}");
        }
        for (member, value) in [
            ("action_type", json!("read")),
            ("side_effect_class", json!("external_read")),
            ("reversibility", json!("full")),
            ("principal", json!("root")),
            ("actor", json!("agent")),
            ("policy_hash", json!("")),
        ] {
            assert_eq!(with(member, value), [true, false], "{member}");
        }
        for (time, is_own) in [
            ("2026-11-24T10:00:00Z", true),
            ("2026-11-24T10:00:01Z", false),
        ] {
            let mut beat = open.clone();
            beat["target"] = json!("pipelock://session/heartbeat");
            beat["timestamp"] = json!("2026-11-24T10:00:00Z");
            beat["session_control"] =
                json!({"kind": "heartbeat", "heartbeat": {"heartbeat_time": time}});
            assert_eq!(judged(&beat), [true, is_own], "{time}");
        }
    }
}
