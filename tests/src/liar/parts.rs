//! Lies that leave out parts of the truth, or tell it twice.
use super::combined::deny_by;
use super::hosts::{FIRST, by_scheme, host};
use super::tales::{actions, allowed, is_allowed, is_outcome};
use super::testimony::{Receipt, Testimony};

/// Returns the ids of the actions whose outcome has one of these reasons.
fn ended(testimony: &Testimony, reasons: &[&str]) -> Vec<String> {
    actions(testimony, |receipt| {
        let pattern = receipt.text("pattern");
        let reason = pattern.split("reason=").nth(1).unwrap_or_default();
        is_outcome(receipt) && reasons.contains(&reason)
    })
}

/// Sets the pattern of each outcome with this transport and reason.
fn outcomes(testimony: &mut Testimony, transport: &str, reason: &str, pattern: &str) {
    let reason = format!("reason={reason}");
    for receipt in testimony.decisions_mut() {
        let is_of = receipt.text("transport") == transport && is_outcome(receipt);
        if is_of && receipt.text("pattern").ends_with(&reason) {
            receipt.set("pattern", pattern);
        }
    }
}

/// Signs one warning in place of the intent and the outcome of each allowed action.
pub(super) fn warnings_only(testimony: &mut Testimony) {
    testimony.retain(|receipt| !is_outcome(receipt));
    for receipt in testimony.decisions_mut() {
        if is_allowed(receipt) {
            receipt.remove("decision_phase");
            receipt.set("verdict", "warn");
        }
    }
}

pub(super) fn intents_as_warnings(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        if is_allowed(receipt) {
            receipt.set("verdict", "warn");
        }
    }
}

pub(super) fn denials_as_questions(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        if receipt.text("verdict") == "block" {
            receipt.set("verdict", "ask");
        }
    }
}

pub(super) fn ports_left_out(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        if is_allowed(receipt) && receipt.text("transport") == "connect" {
            let target = format!("https://{}/", host(&receipt.text("target")));
            receipt.set("target", &target);
        }
    }
}

pub(super) fn schemes_left_out(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        if is_allowed(receipt) && receipt.text("transport") == "forward" {
            let target = by_scheme(&receipt.text("target"), "");
            receipt.set("target", &target);
        }
    }
}

pub(super) fn websockets_refused(testimony: &mut Testimony) {
    let pattern = "status=403 bytes=0 reason=complete";
    outcomes(testimony, "websocket", "complete", pattern);
}

/// Signs that no byte passed through any WebSocket.
pub(super) fn websockets_as_nothing(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        if receipt.text("transport") == "websocket" && is_outcome(receipt) {
            let pattern = receipt.text("pattern");
            let (status, _) = pattern.split_once(' ').unwrap_or_default();
            receipt.set("pattern", &format!("{status} bytes=0 reason=complete"));
        }
    }
}

pub(super) fn tunnels_cut_after_a_denial(testimony: &mut Testimony) {
    let pattern = "status=403 bytes=0 reason=client_disconnected";
    outcomes(testimony, "connect", "complete", pattern);
}

pub(super) fn fetch_as_cut(testimony: &mut Testimony) {
    let pattern = "status=502 bytes=0 reason=reset";
    outcomes(testimony, "fetch", "complete", pattern);
}

pub(super) fn fetch_of_another_status(testimony: &mut Testimony) {
    let pattern = "status=418 bytes=0 reason=complete";
    outcomes(testimony, "fetch", "complete", pattern);
}

/// Signs that a secret was found in each request whose origin was not reached.
pub(super) fn failed_as_denied(testimony: &mut Testimony) {
    for action in ended(testimony, &["dial_failed"]) {
        deny_by(testimony, &action, "dlp");
    }
}

pub(super) fn not_dialled_as_not_answered(testimony: &mut Testimony) {
    let pattern = "status=502 bytes=0 reason=fetch_failed";
    outcomes(testimony, "forward", "dial_failed", pattern);
}

pub(super) fn not_answered_as_not_dialled(testimony: &mut Testimony) {
    let pattern = "status=502 bytes=0 reason=dial_failed";
    outcomes(testimony, "forward", "fetch_failed", pattern);
}

/// Signs another status for each request without an answer from its origin.
pub(super) fn failures_of_another_status(testimony: &mut Testimony) {
    failures(testimony, |pattern| {
        pattern.replace("status=502", "status=500")
    });
}

/// Signs bytes for each request without a connection to its origin.
pub(super) fn failures_with_bytes(testimony: &mut Testimony) {
    failures(testimony, |pattern| {
        let (status, _) = pattern.split_once(' ').unwrap_or_default();
        format!("{status} bytes=10000000 reason=dial_failed")
    });
}

/// Signs that each request without an answer from its origin was cut before the mediator could answer.
pub(super) fn failures_as_cut(testimony: &mut Testimony) {
    failures(testimony, |_| {
        String::from("status=0 bytes=0 reason=client_cancelled")
    });
}

fn failures(testimony: &mut Testimony, change: impl Fn(&str) -> String) {
    let failed = ended(testimony, &["dial_failed", "fetch_failed"]);
    for receipt in testimony.decisions_mut() {
        if is_outcome(receipt) && failed.contains(&receipt.text("action_id")) {
            receipt.set("pattern", &change(&receipt.text("pattern")));
        }
    }
}

/// Signs that each tunnel without a connection to its origin carried bytes.
pub(super) fn failed_tunnel_as_complete(testimony: &mut Testimony) {
    let pattern = "status=200 bytes=5000000 reason=complete";
    outcomes(testimony, "connect", "dial_failed", pattern);
}

/// Signs that each answer that its origin cut had not begun.
pub(super) fn cut_as_not_begun(testimony: &mut Testimony) {
    let pattern = "status=0 bytes=0 reason=shutdown";
    outcomes(testimony, "forward", "response_read_error", pattern);
}

/// For each answer that the origin cut, signs that the origin sent no answer.
pub(super) fn cut_as_not_answered(testimony: &mut Testimony) {
    let pattern = "status=502 bytes=0 reason=fetch_failed";
    outcomes(testimony, "forward", "response_read_error", pattern);
}

pub(super) fn failures_dropped(testimony: &mut Testimony) {
    let failed = ended(testimony, &["dial_failed", "fetch_failed"]);
    testimony.retain(|receipt| !failed.contains(&receipt.text("action_id")));
}

/// Adds a second outcome to the text of each outcome.
pub(super) fn two_outcomes_in_one(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        if is_outcome(receipt) {
            let pattern = receipt.text("pattern");
            receipt.set(
                "pattern",
                &format!("{pattern} status=403 bytes=0 reason=dlp"),
            );
        }
    }
}

/// Returns the time ten years earlier.
fn another_year(time: &str) -> String {
    let (year, rest) = time.split_once('-').unwrap_or_default();
    let earlier = year
        .parse::<u16>()
        .map_or(0, |year| year.saturating_sub(10));
    format!("{earlier:04}-{rest}")
}

pub(super) fn entries_of_another_year(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        let time = another_year(&receipt.entry.text("ts"));
        receipt.entry.set("ts", &time);
    }
}

pub(super) fn another_principal(testimony: &mut Testimony) {
    set_all(testimony, "principal", "alice@example.com");
}

pub(super) fn another_reversibility(testimony: &mut Testimony) {
    set_all(testimony, "reversibility", "irreversible");
}

fn set_all(testimony: &mut Testimony, name: &str, text: &str) {
    for receipt in testimony.decisions_mut() {
        receipt.set(name, text);
    }
}

/// Signs a message in a WebSocket that no message ended.
pub(super) fn messages_invented(testimony: &mut Testimony) {
    message(testimony, str::to_owned);
}

/// Signs a message in a WebSocket that the command never requested.
pub(super) fn message_elsewhere(testimony: &mut Testimony) {
    message(testimony, |target| {
        format!("ws://{}:4444/never", host(target))
    });
}

fn message(testimony: &mut Testimony, target: impl Fn(&str) -> String) {
    let like = allowed(testimony, "websocket", FIRST);
    let theirs = testimony
        .receipts()
        .filter(|receipt| receipt.text("action_id") == like);
    let Some(mut receipt) = theirs.last().cloned() else {
        return;
    };
    let elsewhere = target(&receipt.text("target"));
    let id = like
        .get(..like.len().saturating_sub(12))
        .unwrap_or_default();
    receipt.remove("decision_phase");
    for (name, text) in [
        ("action_id", format!("{id}0000000000aa").as_str()),
        ("target", &elsewhere),
        ("verdict", "warn"),
        ("layer", "dlp"),
        ("pattern", "a secret"),
    ] {
        receipt.set(name, text);
    }
    testimony.add(vec![receipt]);
}

/// Changes each version 2 receipt.
fn twins(testimony: &mut Testimony, change: impl Fn(&mut Receipt)) {
    for receipt in testimony.decisions_mut() {
        if receipt.twin.is_some() {
            change(receipt);
        }
    }
}

pub(super) fn twins_of_another_year(testimony: &mut Testimony) {
    twins(testimony, |receipt| {
        if let Some(twin) = &mut receipt.twin {
            let time = another_year(&twin.receipt.text("timestamp"));
            twin.receipt.set("timestamp", &time);
            twin.entry.set("ts", &time);
        }
    });
}

pub(super) fn twins_of_another_policy(testimony: &mut Testimony) {
    twins(testimony, |receipt| {
        if let Some(twin) = &mut receipt.twin {
            let policy = format!("sha256:{}", "0".repeat(64));
            twin.receipt.set("policy_hash", &policy);
        }
    });
}

pub(super) fn twins_of_another_action(testimony: &mut Testimony) {
    twins(testimony, |receipt| {
        if let Some(twin) = &mut receipt.twin {
            twin.set("action_type", "mcp_tool_call");
        }
    });
}
