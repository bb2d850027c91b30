//! The functions that change the evidence for each lie.
use std::collections::BTreeSet;

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::hosts::{FIRST, NEVER_ASKED, SECOND, at_host, at_path, at_port, by_scheme, host};
use super::testimony::{Receipt, Testimony};

/// A number of bytes that is larger than every tolerance.
const MUCH: u64 = 100 << 20;

pub(super) fn is_allowed(receipt: &Receipt) -> bool {
    receipt.text("verdict") == "allow"
}

pub(super) fn is_outcome(receipt: &Receipt) -> bool {
    receipt.text("decision_phase") == "outcome"
}

fn is_of(receipt: &Receipt, transport: &str, name: &str) -> bool {
    receipt.text("transport") == transport && host(&receipt.text("target")) == name
}

/// Returns the ids of the actions that have a receipt for which `is` returns true, in the order of the receipts.
pub(super) fn actions(testimony: &Testimony, is: impl Fn(&Receipt) -> bool) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let decisions = testimony
        .receipts()
        .filter(|receipt| receipt.is_decision() && is(receipt));
    decisions
        .map(|receipt| receipt.text("action_id"))
        .filter(|id| seen.insert(id.clone()))
        .collect()
}

/// Returns the id of the first allowed action with this transport and the host `name`.
pub(super) fn allowed(testimony: &Testimony, transport: &str, name: &str) -> String {
    let found = actions(testimony, |receipt| {
        is_allowed(receipt) && is_of(receipt, transport, name)
    });
    found.into_iter().next().unwrap_or_default()
}

/// Changes every receipt of an action.
pub(super) fn change(testimony: &mut Testimony, action: &str, mut with: impl FnMut(&mut Receipt)) {
    for receipt in testimony.decisions_mut() {
        if receipt.text("action_id") == action {
            with(receipt);
        }
    }
}

/// Changes the target in every receipt of an action.
fn retarget(testimony: &mut Testimony, action: &str, with: impl Fn(&str) -> String) {
    change(testimony, action, |receipt| {
        let target = with(&receipt.text("target"));
        receipt.set("target", &target);
    });
}

/// Signs a denial in place of the receipts of an action.
fn refuse(testimony: &mut Testimony, action: &str) {
    testimony.retain(|receipt| receipt.text("action_id") != action || !is_outcome(receipt));
    change(testimony, action, |receipt| {
        let target = receipt.text("target");
        receipt.remove("decision_phase");
        receipt.set("verdict", "block");
        receipt.set("layer", "allowlist");
        let pattern = format!("domain not in allowlist: {}", host(&target));
        receipt.set("pattern", &pattern);
    });
}

/// Builds the receipts of an action that never took place. These receipts are copies of the receipts of the action
/// `like`, so that they have the form of this mediator. The number and the host `name` are new.
fn invented(testimony: &Testimony, like: &str, number: u64, name: &str) -> Vec<Receipt> {
    let theirs = testimony
        .receipts()
        .filter(|receipt| receipt.text("action_id") == like);
    let mut receipts: Vec<Receipt> = theirs.cloned().collect();
    for receipt in &mut receipts {
        let target = at_host(&receipt.text("target"), name);
        receipt.set("target", &target);
        receipt.set("action_id", &fresh_id(like, number));
    }
    receipts
}

/// Returns another action id with the form of `id`.
fn fresh_id(id: &str, number: u64) -> String {
    let kept: String = id.chars().take(id.len().saturating_sub(12)).collect();
    format!("{kept}{number:012x}")
}

/// Changes the number `name` in all outcomes.
fn measure(testimony: &mut Testimony, name: &str, value: impl Fn(&str) -> String) {
    for receipt in testimony.decisions_mut() {
        if !is_outcome(receipt) {
            continue;
        }
        let pattern = receipt.text("pattern");
        let words = pattern.split(' ').map(|word| match word.split_once('=') {
            Some((key, old)) if key == name => format!("{key}={}", value(old)),
            _ => word.to_owned(),
        });
        let words: Vec<String> = words.collect();
        receipt.set("pattern", &words.join(" "));
    }
}

/// Returns the time that is `by` later than `time`.
pub(super) fn later(time: &str, by: Duration) -> String {
    let moved = OffsetDateTime::parse(time, &Rfc3339).map(|time| time + by);
    moved.map_or_else(|_| time.to_owned(), egress_sys::clock::rfc3339)
}

pub(super) fn truth(_: &mut Testimony) {}

pub(super) fn allowed_as_blocked(testimony: &mut Testimony) {
    for action in actions(testimony, is_allowed) {
        refuse(testimony, &action);
    }
}

pub(super) fn request_as_blocked(testimony: &mut Testimony) {
    let action = allowed(testimony, "forward", FIRST);
    refuse(testimony, &action);
}

pub(super) fn tunnel_as_blocked(testimony: &mut Testimony) {
    let action = allowed(testimony, "connect", FIRST);
    refuse(testimony, &action);
}

pub(super) fn verdicts_flipped(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        let other = if is_allowed(receipt) {
            "block"
        } else {
            "allow"
        };
        if !is_outcome(receipt) {
            receipt.set("verdict", other);
        }
    }
}

/// Signs the receipts of an allowed action in place of the first denial with this transport.
fn permit(testimony: &mut Testimony, transport: &str) {
    let refused = actions(testimony, |receipt| {
        !is_allowed(receipt) && receipt.text("transport") == transport
    });
    let Some(refused) = refused.first() else {
        return;
    };
    let target = testimony
        .receipts()
        .find(|receipt| receipt.text("action_id") == *refused)
        .map(|receipt| receipt.text("target"))
        .unwrap_or_default();
    let like = allowed(testimony, transport, FIRST);
    let mut receipts = invented(testimony, &like, 1, host(&target));
    for receipt in &mut receipts {
        receipt.set("action_id", refused);
        receipt.set("target", &target);
    }
    testimony.retain(|receipt| receipt.text("action_id") != *refused);
    testimony.add(receipts);
}

pub(super) fn blocked_request_as_allowed(testimony: &mut Testimony) {
    permit(testimony, "forward");
}

pub(super) fn blocked_tunnel_as_allowed(testimony: &mut Testimony) {
    permit(testimony, "connect");
}

pub(super) fn refusals_dropped(testimony: &mut Testimony) {
    testimony.retain(is_allowed);
}

pub(super) fn refused_tunnels_dropped(testimony: &mut Testimony) {
    testimony.retain(|receipt| is_allowed(receipt) || receipt.text("transport") != "connect");
}

pub(super) fn tunnels_as_one_intercept(testimony: &mut Testimony) {
    let mut is_first = true;
    testimony.retain(|receipt| {
        !is_of(receipt, "connect", FIRST) || (!is_outcome(receipt) && std::mem::take(&mut is_first))
    });
    for receipt in testimony.decisions_mut() {
        if is_of(receipt, "connect", FIRST) {
            receipt.remove("decision_phase");
            receipt.set("transport", "intercept");
            receipt.set("target", &format!("https://{FIRST}:443/"));
        }
    }
}

pub(super) fn intercepts_invented(testimony: &mut Testimony) {
    let like = allowed(testimony, "connect", FIRST);
    for number in 1..=5 {
        let mut receipts = invented(testimony, &like, number, FIRST);
        for receipt in &mut receipts {
            receipt.set("transport", "intercept");
            receipt.set("target", &format!("https://{FIRST}:443/{number}"));
        }
        testimony.add(receipts);
    }
}

pub(super) fn frames_invented(testimony: &mut Testimony) {
    let like = allowed(testimony, "forward", FIRST);
    for (number, layer) in [(1, "ws_protocol"), (2, "dlp"), (3, "response_scan")] {
        let mut receipts = invented(testimony, &like, number, NEVER_ASKED);
        receipts.retain(|receipt| !is_outcome(receipt));
        for receipt in &mut receipts {
            receipt.remove("decision_phase");
            receipt.set("transport", "websocket");
            receipt.set("method", "WS");
            receipt.set("verdict", "block");
            receipt.set("layer", layer);
            receipt.set("pattern", "binary frames are not allowed");
            let target = by_scheme(&receipt.text("target"), "ws");
            receipt.set("target", &target);
        }
        testimony.add(receipts);
    }
}

pub(super) fn host_invented_with_a_used_id(testimony: &mut Testimony) {
    let like = allowed(testimony, "forward", FIRST);
    let mut receipts = invented(testimony, &like, 1, NEVER_ASKED);
    for receipt in &mut receipts {
        receipt.set("action_id", &like);
    }
    // Published verifiers accept one intent and one outcome for each action.
    receipts.retain(|receipt| !is_outcome(receipt));
    for receipt in &mut receipts {
        receipt.remove("decision_phase");
    }
    testimony.add(receipts);
}

pub(super) fn host_invented(testimony: &mut Testimony) {
    let like = allowed(testimony, "forward", FIRST);
    let receipts = invented(testimony, &like, 1, NEVER_ASKED);
    testimony.add(receipts);
}

pub(super) fn action_invented(testimony: &mut Testimony) {
    let like = allowed(testimony, "forward", FIRST);
    let receipts = invented(testimony, &like, 1, FIRST);
    testimony.add(receipts);
}

pub(super) fn one_id_for_two_transports(testimony: &mut Testimony) {
    let request = allowed(testimony, "forward", SECOND);
    let tunnel = allowed(testimony, "connect", SECOND);
    // One receipt of the tunnel is kept, because published verifiers accept one intent for each action.
    testimony.retain(|receipt| receipt.text("action_id") != tunnel || !is_outcome(receipt));
    change(testimony, &tunnel, |receipt| {
        receipt.remove("decision_phase");
        receipt.set("action_id", &request);
    });
}

pub(super) fn targets_redacted(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        receipt.set("target", "[redacted-target]");
    }
}

pub(super) fn another_port(testimony: &mut Testimony) {
    let action = allowed(testimony, "forward", FIRST);
    retarget(testimony, &action, |target| at_port(target, 8080));
}

pub(super) fn another_port_of_a_tunnel(testimony: &mut Testimony) {
    let action = allowed(testimony, "connect", FIRST);
    retarget(testimony, &action, |target| at_port(target, 8443));
}

pub(super) fn another_path(testimony: &mut Testimony) {
    let action = allowed(testimony, "forward", FIRST);
    retarget(testimony, &action, |target| at_path(target, "/harmless"));
}

pub(super) fn another_method(testimony: &mut Testimony) {
    let posted = actions(testimony, |receipt| receipt.text("method") == "POST");
    for action in posted {
        change(testimony, &action, |receipt| {
            receipt.set("method", "GET");
            receipt.set("action_type", "read");
            receipt.set("side_effect_class", "external_read");
            receipt.set("reversibility", "full");
        });
    }
}

pub(super) fn another_scheme(testimony: &mut Testimony) {
    let action = allowed(testimony, "forward", FIRST);
    retarget(testimony, &action, |target| by_scheme(target, "https"));
}

pub(super) fn another_host(testimony: &mut Testimony) {
    let action = allowed(testimony, "connect", FIRST);
    retarget(testimony, &action, |target| at_host(target, NEVER_ASKED));
}

pub(super) fn hosts_swapped(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        let target = receipt.text("target");
        let other = match host(&target) {
            FIRST => SECOND,
            SECOND => FIRST,
            _ => continue,
        };
        receipt.set("target", &at_host(&target, other));
    }
}

pub(super) fn statuses_changed(testimony: &mut Testimony) {
    measure(testimony, "status", |old| match old {
        "200" => String::from("403"),
        other => other.to_owned(),
    });
}

pub(super) fn bytes_forgotten(testimony: &mut Testimony) {
    measure(testimony, "bytes", |_| String::from("0"));
}

pub(super) fn bytes_inflated(testimony: &mut Testimony) {
    measure(testimony, "bytes", |old| {
        (old.parse::<u64>().unwrap_or_default() + MUCH).to_string()
    });
}

/// Signs that an action did not reach its origin.
fn fail(testimony: &mut Testimony, action: &str) {
    change(testimony, action, |receipt| {
        if is_outcome(receipt) {
            receipt.set("pattern", "status=502 bytes=0 reason=dial_failed");
        }
    });
}

pub(super) fn request_as_not_dialled(testimony: &mut Testimony) {
    let action = allowed(testimony, "forward", FIRST);
    fail(testimony, &action);
}

pub(super) fn tunnel_as_not_dialled(testimony: &mut Testimony) {
    let action = allowed(testimony, "connect", FIRST);
    fail(testimony, &action);
}

pub(super) fn request_dropped(testimony: &mut Testimony) {
    let action = allowed(testimony, "forward", FIRST);
    testimony.retain(|receipt| receipt.text("action_id") != action);
}

pub(super) fn outcomes_dropped(testimony: &mut Testimony) {
    testimony.retain(|receipt| !is_outcome(receipt));
}

pub(super) fn later_by_days(testimony: &mut Testimony) {
    testimony.set_times(|time| later(time, Duration::days(16)));
}

pub(super) fn before_the_run(testimony: &mut Testimony) {
    let first = testimony.receipts().next();
    let first = first.map_or_else(String::new, |receipt| receipt.text("timestamp"));
    testimony.set_times(|_| later(&first, Duration::hours(-1)));
}

pub(super) fn clock_set_back(testimony: &mut Testimony) {
    set_clock(testimony, Duration::hours(-1));
}

pub(super) fn clock_set_ahead(testimony: &mut Testimony) {
    set_clock(testimony, Duration::hours(1));
}

/// Changes the times as if the clock had been shifted by `by` two seconds after the first receipt.
fn set_clock(testimony: &mut Testimony, by: Duration) {
    let first = testimony.receipts().next();
    let first = first.map_or_else(String::new, |receipt| receipt.text("timestamp"));
    let read = |time: &str| OffsetDateTime::parse(time, &Rfc3339).ok();
    let step = read(&later(&first, Duration::seconds(2)));
    testimony.set_times(|time| {
        let is_behind = read(time) >= step;
        later(time, if is_behind { by } else { Duration::ZERO })
    });
}

pub(super) fn at_one_instant(testimony: &mut Testimony) {
    let last = testimony.receipts().last();
    let last = last.map_or_else(String::new, |receipt| receipt.text("timestamp"));
    for receipt in testimony.decisions_mut() {
        receipt.set_time(&last);
    }
}

pub(super) fn times_reversed(testimony: &mut Testimony) {
    let times = testimony.receipts().filter(|receipt| receipt.is_decision());
    let mut times: Vec<String> = times.map(|receipt| receipt.text("timestamp")).collect();
    for receipt in testimony.decisions_mut() {
        if let Some(time) = times.pop() {
            receipt.set_time(&time);
        }
    }
}

pub(super) fn twin_of_another_verdict(testimony: &mut Testimony) {
    change_twin(testimony, "verdict", |_| String::from("block"));
}

pub(super) fn twin_of_another_target(testimony: &mut Testimony) {
    change_twin(testimony, "target", |target| at_host(target, NEVER_ASKED));
}

fn change_twin(testimony: &mut Testimony, name: &str, with: impl Fn(&str) -> String) {
    let action = allowed(testimony, "forward", FIRST);
    change(testimony, &action, |receipt| {
        let text = with(&receipt.text(name));
        if let Some(twin) = &mut receipt.twin {
            twin.set(name, &text);
        }
    });
}

pub(super) fn twins_dropped(testimony: &mut Testimony) {
    let action = allowed(testimony, "forward", FIRST);
    change(testimony, &action, |receipt| receipt.twin = None);
}

pub(super) fn another_reason(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        if !is_allowed(receipt) && receipt.text("layer") == "allowlist" {
            receipt.set("pattern", "domain not in allowlist: some other name");
        }
    }
}

pub(super) fn another_number(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        receipt.set("request_id", "req-4711");
    }
}

pub(super) fn allowed_forgotten(testimony: &mut Testimony) {
    testimony.retain(|receipt| !is_allowed(receipt));
}
