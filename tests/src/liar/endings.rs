//! Lies about the ends and the kinds of actions.
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::tales::{is_outcome, later};
use super::testimony::{Receipt, Testimony};

/// Changes every outcome whose action ended normally.
fn of_complete(testimony: &mut Testimony, change: impl Fn(&mut Receipt)) {
    for receipt in testimony.decisions_mut() {
        if is_outcome(receipt) && receipt.text("pattern").contains("reason=complete") {
            change(receipt);
        }
    }
}

/// Signs a separate denial in place of each outcome that ended normally. The denial states that the answer's content
/// was denied.
pub(super) fn answers_denied(testimony: &mut Testimony) {
    of_complete(testimony, |receipt| {
        receipt.remove("decision_phase");
        receipt.set("verdict", "block");
        receipt.set("layer", "response_scan");
        receipt.set("pattern", "response injection: Prompt Injection");
    });
}

/// Signs each outcome that ended normally as a denial of the answer's content.
pub(super) fn outcomes_denied(testimony: &mut Testimony) {
    of_complete(testimony, |receipt| {
        receipt.set("verdict", "block");
        receipt.set("layer", "response_scan");
        receipt.set("pattern", "status=403 bytes=0 reason=response_blocked");
    });
}

/// Signs each action that ended normally as cut before its answer.
pub(super) fn complete_as_cut(testimony: &mut Testimony) {
    of_complete(testimony, |receipt| {
        receipt.set("pattern", "status=0 bytes=0 reason=client_cancelled");
    });
}

/// Signs each action that ended normally as cut after an answer with status 418, which no server sent.
pub(super) fn complete_as_cut_after_another_answer(testimony: &mut Testimony) {
    of_complete(testimony, |receipt| {
        let pattern = "status=418 bytes=0 reason=client_disconnected";
        receipt.set("pattern", pattern);
    });
}

/// Signs actions that change something at the destination as reads.
pub(super) fn writes_as_reads(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        let is_write = ["POST", "PUT"].contains(&receipt.text("method").as_str());
        if is_write {
            receipt.set("action_type", "read");
            receipt.set("side_effect_class", "external_read");
        }
    }
}

/// Adds user information that looks like a host to the targets.
pub(super) fn users_invented(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        if receipt.text("transport") == "forward" {
            let target = receipt.text("target");
            let target = target.replacen("://", "://harmless.example@", 1);
            receipt.set("target", &target);
        }
    }
}

/// Signs the end of the session, and everything else that follows the last decision, days later.
pub(super) fn ends_later_by_days(testimony: &mut Testimony) {
    let read = |time: &str| OffsetDateTime::parse(time, &Rfc3339).ok();
    let decisions = testimony.receipts().filter(|receipt| receipt.is_decision());
    let last = decisions
        .map(|receipt| read(&receipt.text("timestamp")))
        .max();
    testimony.set_times(|time| {
        let is_behind = Some(read(time)) > last;
        later(
            time,
            if is_behind {
                Duration::days(3)
            } else {
                Duration::ZERO
            },
        )
    });
}
