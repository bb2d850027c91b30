//! Lies that combine members of receipts. An honest mediator writes each of these members, but in another receipt.
use super::hosts::{FIRST, SECOND, at_path};
use super::tales::{actions, allowed, change, is_allowed, is_outcome};
use super::testimony::{Receipt, Testimony};

/// The layer of the receipt with which a Pipelock ends a WebSocket.
const CLOSE: &str = "session_close";

/// Signs one denial by this layer in place of the receipts of an action.
pub(super) fn deny_by(testimony: &mut Testimony, action: &str, layer: &str) {
    testimony.retain(|receipt| receipt.text("action_id") != action || !is_outcome(receipt));
    change(testimony, action, |receipt| deny(receipt, layer));
}

fn deny(receipt: &mut Receipt, layer: &str) {
    receipt.remove("decision_phase");
    receipt.set("verdict", "block");
    receipt.set("layer", layer);
    receipt.set("pattern", "denied");
}

/// Sets the pattern of every outcome with this transport.
fn change_outcomes(testimony: &mut Testimony, transport: &str, pattern: &str) {
    for receipt in testimony.decisions_mut() {
        if is_outcome(receipt) && receipt.text("transport") == transport {
            receipt.set("pattern", pattern);
        }
    }
}

pub(super) fn allowed_as_closed(testimony: &mut Testimony) {
    for action in actions(testimony, is_allowed) {
        deny_by(testimony, &action, CLOSE);
    }
}

pub(super) fn request_as_closed(testimony: &mut Testimony) {
    let action = allowed(testimony, "forward", FIRST);
    deny_by(testimony, &action, CLOSE);
}

pub(super) fn tunnel_as_closed(testimony: &mut Testimony) {
    let action = allowed(testimony, "connect", SECOND);
    deny_by(testimony, &action, CLOSE);
}

pub(super) fn websocket_as_closed(testimony: &mut Testimony) {
    let action = allowed(testimony, "websocket", FIRST);
    deny_by(testimony, &action, CLOSE);
}

pub(super) fn request_as_a_message(testimony: &mut Testimony) {
    let action = allowed(testimony, "forward", FIRST);
    deny_by(testimony, &action, "dlp");
}

pub(super) fn websocket_as_a_message(testimony: &mut Testimony) {
    let action = allowed(testimony, "websocket", FIRST);
    deny_by(testimony, &action, "dlp");
}

/// Signs each outcome as a denial at the end of a WebSocket.
pub(super) fn outcome_as_closed(testimony: &mut Testimony) {
    let action = allowed(testimony, "forward", SECOND);
    change(testimony, &action, |receipt| {
        if is_outcome(receipt) {
            receipt.set("verdict", "block");
            receipt.set("layer", CLOSE);
        }
    });
}

/// Signs each intent as a denial at the end of a WebSocket.
pub(super) fn intent_as_closed(testimony: &mut Testimony) {
    let action = allowed(testimony, "forward", SECOND);
    change(testimony, &action, |receipt| {
        if !is_outcome(receipt) {
            receipt.set("verdict", "block");
            receipt.set("layer", CLOSE);
        }
    });
}

/// Adds a denial at the end of a WebSocket for every allowed action with this transport. The denial has the id of the
/// action.
fn close_also(testimony: &mut Testimony, is_of: impl Fn(&str) -> bool) {
    let begun = testimony.receipts().filter(|receipt| {
        receipt.is_decision()
            && is_allowed(receipt)
            && !is_outcome(receipt)
            && is_of(&receipt.text("transport"))
    });
    let mut closes: Vec<Receipt> = begun.cloned().collect();
    for receipt in &mut closes {
        deny(receipt, CLOSE);
    }
    testimony.add(closes);
}

pub(super) fn closes_appended(testimony: &mut Testimony) {
    close_also(testimony, |_| true);
}

pub(super) fn close_of_a_websocket_appended(testimony: &mut Testimony) {
    close_also(testimony, |transport| transport == "websocket");
}

/// Signs that a denied message ended each WebSocket, with all receipts that a Pipelock with outcomes writes in this
/// case.
pub(super) fn websocket_as_ended_by_policy(testimony: &mut Testimony) {
    let pattern = "status=1008 bytes=10 reason=policy_blocked";
    change_outcomes(testimony, "websocket", pattern);
    close_also(testimony, |transport| transport == "websocket");
}

pub(super) fn websocket_at_another_path(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        if receipt.text("transport") == "websocket" {
            let target = at_path(&receipt.text("target"), "/other");
            receipt.set("target", &target);
        }
    }
}

pub(super) fn numbers_unknown(testimony: &mut Testimony) {
    let pattern = "status=unknown bytes=unknown reason=complete";
    change_outcomes(testimony, "forward", pattern);
}

pub(super) fn bytes_unknown(testimony: &mut Testimony) {
    let pattern = "status=200 bytes=unknown reason=complete";
    change_outcomes(testimony, "forward", pattern);
}

pub(super) fn numbers_of_tunnels_unknown(testimony: &mut Testimony) {
    let pattern = "status=unknown bytes=unknown reason=complete";
    change_outcomes(testimony, "connect", pattern);
}

/// Signs that every action was cut after the answer that the relay received, and that no byte of a body was sent.
pub(super) fn complete_as_cut_after_the_answer(testimony: &mut Testimony) {
    let pattern = "status=200 bytes=0 reason=client_disconnected";
    for transport in ["forward", "connect", "websocket"] {
        change_outcomes(testimony, transport, pattern);
    }
}

/// Signs only that actions were allowed, as a Pipelock without intents and outcomes does.
pub(super) fn phases_dropped(testimony: &mut Testimony) {
    testimony.retain(|receipt| !is_outcome(receipt));
    for receipt in testimony.decisions_mut() {
        receipt.remove("decision_phase");
    }
}

pub(super) fn denials_of_another_layer(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        if !is_allowed(receipt) {
            receipt.set("layer", "dlp");
            receipt.set("pattern", "a secret");
        }
    }
}
