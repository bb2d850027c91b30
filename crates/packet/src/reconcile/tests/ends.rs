//! How actions end: outcomes, the closes of `WebSocket`s, and their times.
use serde_json::json;

use super::*;

const SOCKET: &str = "ws://a.test/ws";

/// Makes a run with a WebSocket that the relay carried and no receipt signs.
fn socket() -> Run {
    let mut run = Run::new();
    let row = json!({"status": 101, "bytes_up": 10, "bytes_down": 500});
    run.request(1, "websocket", "GET ws://a.test/ws", "forwarded", &row);
    run
}

/// Signs the end of the WebSocket.
fn close(run: &mut Run, verdict: &str) {
    let facts = json!({
        "transport": "websocket", "method": "WS", "target": SOCKET, "verdict": verdict, "layer": "session_close",
    });
    run.receipt(1, "", &facts);
}

#[test]
fn the_end_of_a_websocket_follows_its_outcome() {
    let ended = |reason: &str| {
        let mut run = socket();
        let code = if reason == "complete" { 1000 } else { 1008 };
        let pattern = format!("status={code} bytes=20 reason={reason}");
        run.action(1, "websocket", "WS", SOCKET, &pattern);
        assert_eq!(named(&run, PIPELOCK), Vec::<&str>::new(), "{reason}");
        run
    };
    for (reason, verdict, found) in [
        ("policy_blocked", "block", &[][..]),
        ("policy_blocked", "allow", &["repeated"]),
        ("complete", "allow", &[]),
        ("complete", "block", &["repeated"]),
        ("client_disconnected", "block", &["repeated"]),
    ] {
        let mut run = ended(reason);
        close(&mut run, verdict);
        assert_eq!(named(&run, PIPELOCK), found, "{reason} {verdict}");
        close(&mut run, verdict);
        assert_eq!(named(&run, PIPELOCK), ["repeated"], "{reason} {verdict}");
        let built_in = named(&run, BUILTIN);
        assert!(built_in.contains(&"repeated"), "{built_in:?}");
    }
}

#[test]
fn the_end_of_a_websocket_stands_alone_only_without_outcomes() {
    for verdict in ["allow", "block"] {
        let mut run = socket();
        close(&mut run, verdict);
        assert_eq!(named(&run, PIPELOCK), ["other_form"], "{verdict}");
        let without_outcomes = run.compare(OLD_PIPELOCK);
        assert_eq!(without_outcomes.losses(), Vec::<String>::new(), "{verdict}");
        assert_eq!(without_outcomes.receipted, 1, "{verdict}");
        close(&mut run, verdict);
        assert_eq!(named(&run, OLD_PIPELOCK), ["repeated"], "{verdict}");
        // The receipt of the close neither closes nor denies an intent that is still open.
        let mut run = socket();
        let facts = json!({"transport": "websocket", "method": "WS", "target": SOCKET});
        run.receipt(1, "intent", &facts);
        assert_eq!(named(&run, PIPELOCK), Vec::<&str>::new(), "{verdict}");
        close(&mut run, verdict);
        assert_eq!(named(&run, PIPELOCK), ["other_form"], "{verdict}");
    }
}

#[test]
fn an_allowed_action_begins_with_an_intent_if_there_are_any() {
    let mut run = socket();
    let facts = json!({"transport": "websocket", "method": "WS", "target": SOCKET});
    run.receipt(1, "", &facts);
    for verdict in ["allow", "warn", "strip", "redirect", "forward"] {
        run.rewrite(1, &json!({"verdict": verdict}));
        assert_eq!(named(&run, OLD_PIPELOCK), Vec::<&str>::new(), "{verdict}");
        let found = named(&run, PIPELOCK);
        assert!(found.contains(&"other_form"), "{verdict}: {found:?}");
    }
}

#[test]
fn the_status_of_a_websocket_is_the_one_that_its_mediator_signs() {
    for (pattern, of_builtin, of_pipelock) in [
        (
            "status=101 bytes=510 reason=complete",
            None,
            Some("other_status"),
        ),
        (
            "status=1000 bytes=500 reason=complete",
            Some("other_status"),
            None,
        ),
        (
            "status=1008 bytes=500 reason=policy_blocked",
            Some("other_status"),
            None,
        ),
        (
            "status=403 bytes=0 reason=complete",
            Some("other_status"),
            Some("other_status"),
        ),
        (
            "status=403 bytes=0 reason=reset",
            Some("other_status"),
            Some("other_status"),
        ),
        (
            "status=101 bytes=90000 reason=complete",
            Some("other_bytes"),
            Some("other_status"),
        ),
        (
            "status=502 bytes=0 reason=fetch_failed",
            Some("through_but_denied"),
            Some("through_but_denied"),
        ),
    ] {
        let mut run = socket();
        run.action(1, "websocket", "WS", SOCKET, pattern);
        for (around, expected) in [(BUILTIN, of_builtin), (PIPELOCK, of_pipelock)] {
            let found = named(&run, around);
            let of_number =
                |what: &&str| ["other_status", "other_bytes", "through_but_denied"].contains(what);
            assert_eq!(found.into_iter().find(of_number), expected, "{pattern}");
        }
    }
}

#[test]
fn a_fetch_that_was_answered_is_complete() {
    for (pattern, row, found) in [
        (
            "status=404 bytes=9 reason=complete",
            json!({"status": 200}),
            None,
        ),
        (
            "status=502 bytes=0 reason=reset",
            json!({"status": 200}),
            Some("other_status"),
        ),
        (
            "status=200 bytes=0 reason=reset",
            json!({"status": 200}),
            Some("through_but_denied"),
        ),
    ] {
        let mut run = Run::new();
        run.action(1, "fetch", "GET", "http://a.test/f", pattern);
        run.request(1, "fetch", "GET http://a.test/f", "forwarded", &row);
        assert_eq!(named(&run, PIPELOCK).pop(), found, "{pattern}");
    }
}

#[test]
fn a_tunnel_that_was_opened_has_the_status_200() {
    let tunnel = |row: Value, pattern: &str| {
        let mut run = Run::new();
        run.action(1, "connect", "CONNECT", "https://a.test:443/", pattern);
        run.request(1, "connect", "CONNECT a.test:443", "forwarded", &row);
        run.opened(443, 300);
        run
    };
    for around in [BUILTIN, PIPELOCK] {
        let cut = |row, pattern| named(&tunnel(row, pattern), around).contains(&"other_status");
        let opened = json!({"status": 200, "bytes_up": 9});
        assert!(!cut(opened.clone(), "status=200 bytes=9 reason=reset"));
        assert!(cut(opened, "status=403 bytes=9 reason=reset"));
        assert!(!cut(
            json!({"status": 500}),
            "status=500 bytes=0 reason=hijack_failed"
        ));
    }
}

#[test]
fn a_tunnel_that_failed_is_signed_with_the_status_of_its_answer() {
    for (pattern, found) in [
        ("status=502 bytes=unknown reason=dial_failed", &[][..]),
        (
            "status=200 bytes=9 reason=complete",
            &["failed_otherwise", "other_status"],
        ),
        (
            "status=403 bytes=unknown reason=ssrf_dns_rebind",
            &["other_status"],
        ),
    ] {
        let mut run = Run::new();
        run.action(1, "connect", "CONNECT", "https://a.test:443/", pattern);
        let row = json!({"status": 502, "reason": "mediator_502"});
        run.request(1, "connect", "CONNECT a.test:443", "failed", &row);
        assert_eq!(named(&run, PIPELOCK), found, "{pattern}");
    }
}

#[test]
fn an_outcome_states_the_numbers_that_its_mediator_writes() {
    for (pattern, of_builtin, of_pipelock) in [
        ("status=200 bytes=47 reason=complete", false, false),
        ("status=200 bytes=unknown reason=complete", true, true),
        ("status=unknown bytes=unknown reason=complete", true, true),
        ("status=unknown bytes=47 reason=complete", true, true),
        ("status=unknown bytes=47 reason=incomplete", true, true),
        (
            "status=unknown bytes=unknown reason=incomplete",
            true,
            false,
        ),
        ("status=200 bytes=unknown reason=response_scan", true, false),
        ("status=200 bytes=many reason=response_scan", true, true),
        ("status=200 bytes=-1 reason=response_scan", true, true),
        ("status=200 reason=response_scan", true, true),
        ("status=200 bytes=47", true, true),
        ("status=502 bytes=0 reason=dial_failed", false, false),
        ("status=502 bytes=unknown reason=dial_failed", true, false),
        ("status=502 bytes=47 reason=dial_failed", true, true),
        ("status=500 bytes=0 reason=dial_failed", true, true),
        (
            "status=1011 bytes=0 reason=upstream_dial_failed",
            false,
            false,
        ),
        (
            "status=1011 bytes=47 reason=upstream_dial_failed",
            true,
            true,
        ),
        (
            "status=403 bytes=unknown reason=ssrf_dns_rebind",
            true,
            false,
        ),
        ("status=502 bytes=47 reason=fetch_failed", false, false),
        ("status=500 bytes=47 reason=fetch_failed", true, true),
        ("status=0 bytes=0 reason=client_cancelled", false, true),
        ("status=200 bytes=+47 reason=complete", true, true),
        ("status=200 bytes=047 reason=complete", true, true),
        ("bytes=47 status=200 reason=complete", true, true),
        ("status=200 bytes=47 reason=complete reason=dlp", true, true),
        ("status=200  bytes=47 reason=complete", true, true),
        ("", true, true),
    ] {
        let mut run = Run::new();
        run.action(1, "forward", "GET", "http://a.test/x", pattern);
        let row = json!({"status": 200, "bytes_down": 47});
        run.request(1, "forward", "GET http://a.test/x", "forwarded", &row);
        let is_named = |around| named(&run, around).contains(&"unknown_verdict");
        assert_eq!(is_named(BUILTIN), of_builtin, "{pattern}");
        assert_eq!(is_named(PIPELOCK), of_pipelock, "{pattern}");
    }
}

#[test]
fn an_outcome_is_signed_late_only_by_a_pipelock() {
    let mut run = Run::new();
    let pattern = "status=200 bytes=47 reason=complete";
    run.action(1, "forward", "GET", "http://a.test/x", pattern);
    let row = json!({"status": 200, "bytes_down": 47});
    run.request(1, "forward", "GET http://a.test/x", "forwarded", &row);
    // The number of the receipt, and its minute. The request was made in minute 5, and the run ended in minute 10.
    for (receipt, minute, of_builtin, of_pipelock) in [
        (0, 4, true, true),
        (0, 6, true, true),
        (1, 4, true, true),
        (1, 6, true, false),
        (1, 10, true, false),
    ] {
        let mut run = run.clone();
        assert_eq!(named(&run, PIPELOCK), Vec::<&str>::new());
        run.receipts[receipt]["timestamp"] = json!(time(minute));
        let is_named = |around| named(&run, around).contains(&"other_time");
        let what = format!("receipt {receipt}, minute {minute}");
        assert_eq!(is_named(BUILTIN), of_builtin, "{what}");
        assert_eq!(is_named(PIPELOCK), of_pipelock, "{what}");
    }
    run.receipts[1]["timestamp"] = json!(time(11));
    assert_eq!(named(&run, PIPELOCK), ["outside_run"]);
    // The time is within the tolerance for a request, but before its intent.
    run.receipts[1]["timestamp"] = json!("2026-11-29T10:04:59.8Z");
    assert_eq!(named(&run, PIPELOCK), ["other_time"]);
    run.receipts[1]["timestamp"] = json!("2026-11-29T10:04:59.95Z");
    assert_eq!(named(&run, PIPELOCK), Vec::<&str>::new());
}

#[test]
fn what_was_given_up_may_be_signed_late() {
    for (verdict, around, is_late) in [
        ("unfinished", PIPELOCK, false),
        ("unfinished", OLD_PIPELOCK, false),
        ("unfinished", BUILTIN, true),
        ("answered", PIPELOCK, true),
    ] {
        let mut run = Run::new();
        run.denial(1, "forward", "POST", "http://a.test/x");
        let mut row = json!({"reason": "stopped", "bytes_up": 30_000});
        if verdict == "answered" {
            row = json!({"status": 403, "reason": "answered_403", "bytes_up": 30_000});
        }
        run.request(1, "forward", "POST http://a.test/x", verdict, &row);
        let named_late = |time: String| {
            let mut run = run.clone();
            run.rewrite(1, &json!({"timestamp": time}));
            named(&run, around).contains(&"other_time")
        };
        assert!(!named_late(time(5)), "{verdict}");
        assert_eq!(named_late(time(6)), is_late, "{verdict}");
        assert!(named_late(time(4)), "{verdict}");
    }
}

#[test]
fn a_denied_message_ends_its_websocket() {
    let mut run = Run::new();
    let pattern = "status=1000 bytes=20 reason=complete";
    run.action(1, "websocket", "WS", "ws://a.test/ws", pattern);
    let row = json!({"status": 101, "bytes_down": 500});
    run.request(1, "websocket", "GET ws://a.test/ws", "forwarded", &row);
    let message = json!({
        "transport": "websocket", "method": "WS", "target": "ws://a.test/ws", "verdict": "block", "layer": "dlp",
    });
    run.receipt(2, "", &message);
    assert_eq!(named(&run, PIPELOCK), Vec::<&str>::new());
    run.receipt(3, "", &message);
    assert_eq!(named(&run, PIPELOCK), ["frames"]);
    // The message belongs to a WebSocket that was requested.
    run.drop_action(3);
    run.rewrite(2, &json!({"target": "ws://a.test:4444/never"}));
    assert_eq!(named(&run, PIPELOCK), ["frames"]);
}

#[test]
fn the_builtin_mediator_does_not_sign_the_end_of_a_websocket_alone() {
    for (layer, found) in [("allowlist", false), ("session_close", true)] {
        let mut run = Run::new();
        let row = json!({"status": 403});
        run.request(1, "websocket", "GET ws://a.test/ws", "blocked", &row);
        close(&mut run, "block");
        let whole = json!({
            "action_type": "unclassified", "side_effect_class": "none", "reversibility": "unknown",
            "policy_hash": "00", "principal": "local", "layer": layer,
        });
        run.rewrite(1, &whole);
        let is_named = named(&run, BUILTIN).contains(&"other_form");
        assert_eq!(is_named, found, "{layer}");
    }
}

#[test]
fn entries_have_the_form_of_their_writer() {
    let found =
        |forms, around: Circumstances| named(&Run::honest(), Circumstances { forms, ..around });
    let (odd, unusual) = (
        EntryForms {
            other_summary: 1,
            unlike_recorder: 0,
        },
        EntryForms {
            other_summary: 0,
            unlike_recorder: 1,
        },
    );
    assert!(found(EntryForms::default(), BUILTIN).is_empty());
    assert_eq!(found(odd, BUILTIN), ["other_form"]);
    assert_eq!(found(unusual, BUILTIN), ["other_form"]);
    assert!(found(odd, PIPELOCK).contains(&"other_form"));
    // A Pipelock also writes other entries.
    let usual = found(EntryForms::default(), PIPELOCK);
    assert_eq!(found(unusual, PIPELOCK), usual);
}
