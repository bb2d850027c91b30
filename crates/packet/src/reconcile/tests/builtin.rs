//! Edits of the built-in mediator's receipts that contradict the other records.
use serde_json::json;

use super::*;

fn assert_named(lies: &[Lie]) {
    for (number, (expected, lie)) in lies.iter().enumerate() {
        let mut run = Run::honest();
        lie(&mut run);
        let found = named(&run, BUILTIN);
        assert!(
            found.contains(expected),
            "{number}: {expected} is not in {found:?}"
        );
        assert!(!run.compare(BUILTIN).losses().is_empty());
    }
}

fn outcome(run: &mut Run, id: u64, pattern: &str) {
    let id = id.to_string();
    let is =
        |receipt: &&mut Value| receipt["action_id"] == id && receipt["decision_phase"] == "outcome";
    run.receipts.iter_mut().find(is).unwrap()["pattern"] = json!(pattern);
}

#[test]
fn lies_about_decisions_are_named() {
    assert_named(&[
        ("through_but_denied", |run| {
            run.drop_action(1);
            run.denial(1, "forward", "GET", "http://a.test/x");
        }),
        ("denied_but_allowed", |run| {
            run.drop_action(3);
            let pattern = "status=403 bytes=0 reason=complete";
            run.action(3, "forward", "GET", "http://denied.test/", pattern);
            run.opened(80, 1);
        }),
        ("allowed_and_denied", |run| {
            let denial = json!({
                "action_id": "1", "verdict": "block", "timestamp": time(5), "transport": "forward",
                "method": "GET", "target": "http://a.test/x",
            });
            run.receipts.insert(1, denial);
        }),
        ("reused_id", |run| {
            let pattern = "status=200 bytes=1 reason=complete";
            run.action(1, "forward", "GET", "http://never.test/", pattern);
        }),
        ("repeated", |run| {
            run.denial(1, "forward", "GET", "http://a.test/x");
        }),
        ("intercepted", |run| {
            run.drop_action(2);
            let pattern = "status=200 bytes=1 reason=complete";
            run.action(2, "intercept", "GET", "https://b.test:443/", pattern);
        }),
        ("frames", |run| {
            let frame = json!({
                "verdict": "block", "transport": "websocket", "method": "WS", "target": "ws://a.test/ws",
                "layer": "ws_protocol",
            });
            run.receipt(9, "", &frame);
        }),
    ]);
}

#[test]
fn lies_about_targets_are_named() {
    assert_named(&[
        ("other_target", |run| {
            run.rewrite(1, &json!({"target": "http://a.test/y"}));
        }),
        ("other_target", |run| {
            run.rewrite(1, &json!({"target": "http://a.test:81/x"}));
        }),
        ("other_target", |run| {
            run.rewrite(1, &json!({"target": "https://a.test:80/x"}));
        }),
        ("other_target", |run| {
            run.rewrite(1, &json!({"method": "PUT"}));
        }),
        ("other_target", |run| {
            run.rewrite(2, &json!({"target": "https://b.test:8443/"}));
        }),
        ("other_target", |run| {
            run.rewrite(2, &json!({"target": "http://b.test:443/"}));
        }),
    ]);
    // Only a mediator that redacts may hide a target.
    for target in ["[redacted-target]", "http://a.test/[redacted-path]"] {
        let mut run = Run::honest();
        run.rewrite(5, &json!({"target": target}));
        assert!(!run.compare(BUILTIN).losses().is_empty(), "{target}");
    }
}

#[test]
fn lies_about_numbers_and_times_are_named() {
    assert_named(&[
        ("other_status", |run| {
            outcome(run, 1, "status=403 bytes=47 reason=complete");
        }),
        ("other_status", |run| {
            outcome(run, 2, "status=403 bytes=90000 reason=complete");
        }),
        ("other_bytes", |run| {
            outcome(run, 1, "status=200 bytes=0 reason=complete");
        }),
        ("other_bytes", |run| {
            outcome(run, 2, "status=200 bytes=0 reason=complete");
        }),
        ("more_bytes", |run| {
            outcome(run, 1, "status=200 bytes=104857647 reason=complete");
        }),
        ("outside_run", |run| {
            run.rewrite(1, &json!({"timestamp": "2026-12-15T10:05:00Z"}));
        }),
        ("outside_run", |run| {
            run.rewrite(1, &json!({"timestamp": "2026-11-29T09:05:00Z"}));
        }),
        ("other_time", |run| {
            run.rewrite(1, &json!({"timestamp": time(8)}));
        }),
        ("time_went_back", |run| {
            for (receipt, tenth) in run.receipts.iter_mut().zip((0..9).rev()) {
                receipt["timestamp"] = json!(format!("2026-11-29T10:05:00.{tenth}Z"));
            }
        }),
    ]);
}

/// Claims: kernel-bounds
#[test]
fn the_mediators_own_connections_are_counted() {
    assert_named(&[
        ("more_connections", |run| {
            run.drop_action(1);
            run.denial(1, "forward", "GET", "http://a.test/x");
        }),
        ("more_connections", |run| {
            outcome(run, 1, "status=502 bytes=0 reason=dial_failed");
        }),
        ("no_connection", |run| {
            run.rows
                .retain(|row| row["port"] != 443 || row["source"] != "kernel_mediator");
        }),
        ("more_than_kernel", |run| {
            outcome(run, 1, "status=200 bytes=104857647 reason=complete");
        }),
    ]);
}

#[test]
fn requests_to_the_port_of_name_servers_have_connections() {
    let mut run = Run::new();
    let pattern = "status=200 bytes=50000000 reason=complete";
    run.action(1, "connect", "CONNECT", "https://a.test:53/", pattern);
    let row = json!({"port": 53, "bytes_up": 10, "bytes_down": 50_000_000});
    run.request(1, "connect", "CONNECT a.test:53", "forwarded", &row);
    assert!(named(&run, BUILTIN).contains(&"no_connection"));
    run.opened(53, 25_000_000);
    assert_eq!(named(&run, BUILTIN), Vec::<&str>::new());
    // A query to a name server has no receipt.
    run.opened(53, 100);
    assert_eq!(named(&run, BUILTIN), Vec::<&str>::new());
}

#[test]
fn a_receipt_has_the_form_in_which_the_builtin_mediator_writes_it() {
    let whole = json!({
        "action_type": "read", "side_effect_class": "external_read", "reversibility": "full", "policy_hash": "00",
        "principal": "local",
    });
    let mut run = Run::new();
    let pattern = "status=200 bytes=47 reason=complete";
    run.action(1, "forward", "GET", "http://a.test/x", pattern);
    let row = json!({"status": 200, "bytes_down": 47});
    run.request(1, "forward", "GET http://a.test/x", "forwarded", &row);
    run.opened(80, 400);
    run.rewrite(1, &whole);
    assert_eq!(named(&run, BUILTIN), Vec::<&str>::new());
    for lie in [
        json!({"action_type": "write"}),
        json!({"reversibility": "unknown"}),
        json!({"policy_hash": ""}),
        json!({"principal": "root"}),
        json!({"layer": "dlp"}),
        json!({"target": "http://b.test@a.test/x"}),
    ] {
        let mut run = run.clone();
        run.rewrite(1, &lie);
        assert_eq!(named(&run, BUILTIN), ["other_form"], "{lie}");
    }
    // A mediator that closed its session has signed the end of every action.
    run.rewrite(1, &json!({"decision_phase": "intent"}));
    assert!(named(&run, BUILTIN).contains(&"other_form"));
}

#[test]
fn a_large_upload_is_not_signed_as_nothing() {
    for (bytes, found) in [(60_000_000, &[][..]), (0, &["fewer_bytes"][..])] {
        let mut run = Run::new();
        let pattern = format!("status=200 bytes={bytes} reason=client_disconnected");
        run.action(1, "forward", "POST", "http://a.test/x", &pattern);
        let row = json!({"status": 200, "bytes_up": 60_000_000, "bytes_down": 9});
        run.request(1, "forward", "POST http://a.test/x", "forwarded", &row);
        run.opened(80, 60_001_000);
        assert_eq!(named(&run, BUILTIN), found);
    }
}

/// Makes a run with tunnels to one host: the signed outcomes, and the verdict and the bytes of each row.
fn tunnels(signed: &[&str], carried: &[(&str, u64)]) -> Run {
    let mut run = Run::new();
    for (id, pattern) in (1..).zip(signed) {
        run.action(id, "connect", "CONNECT", "https://a.test:443/", pattern);
        run.opened(443, 100_000_000);
    }
    for (id, (verdict, bytes)) in (1..).zip(carried) {
        let mut row = json!({"status": 200, "bytes_up": bytes});
        if *verdict != "forwarded" {
            row["reason"] = json!("client_closed");
        }
        run.request(id, "connect", "CONNECT a.test:443", verdict, &row);
    }
    run
}

#[test]
fn each_complete_tunnel_has_a_row_of_its_size() {
    let carried = [("forwarded", 1_000), ("forwarded", 500_000)];
    let of = |bytes: u64| format!("status=200 bytes={bytes} reason=complete");
    for (one, other, found, is_too_high) in [
        (500_000, 1_000, &[][..], false),
        (516_000, 17_000, &[], false),
        (250_500, 250_500, &["other_bytes"], true),
        (501_000, 0, &[], false),
        (1_000, 1_000, &["other_bytes", "fewer_bytes"], false),
        (1_000_000, 500_000, &["other_bytes", "more_bytes"], true),
    ] {
        let (one, other) = (of(one), of(other));
        let run = tunnels(&[&one, &other], &carried);
        assert_eq!(named(&run, BUILTIN), found, "{one}, {other}");
        // A Pipelock counts fewer bytes than the relay, so only numbers that are too high are named.
        let is_named = named(&run, PIPELOCK).contains(&"other_bytes");
        assert_eq!(is_named, is_too_high, "{one}, {other}");
    }
    // A tunnel that was cut may have an action with any size within its bounds.
    let [cut, whole] = [of(900_000), of(1_000)];
    let run = tunnels(
        &[&cut, &whole],
        &[("forwarded", 1_000), ("unfinished", 600_000)],
    );
    assert_eq!(named(&run, BUILTIN), Vec::<&str>::new());
}

#[test]
fn the_bytes_of_what_was_cut_are_compared_as_bounds() {
    for (bytes, found) in [
        (60_000_000, &[][..]),
        (76_000_000, &[]),
        (78_000_000, &["more_bytes"]),
        (44_000_000, &[]),
        (42_000_000, &["fewer_bytes"]),
        (0, &["fewer_bytes"]),
    ] {
        let pattern = format!("status=200 bytes={bytes} reason=reset");
        let run = tunnels(&[&pattern], &[("unfinished", 60_000_000)]);
        assert_eq!(named(&run, BUILTIN), found, "{bytes}");
    }
    // The bytes of an answer were sent by the mediator, even if the answer was cut.
    for (bytes, found) in [(60_000, None), (40_000, Some("fewer_bytes"))] {
        let mut run = Run::new();
        let pattern = format!("status=200 bytes={bytes} reason=client_closed");
        run.action(1, "forward", "GET", "http://a.test/x", &pattern);
        let row = json!({"status": 200, "bytes_down": 60_000, "reason": "client_closed"});
        run.request(1, "forward", "GET http://a.test/x", "unfinished", &row);
        run.opened(80, 60_500);
        assert_eq!(named(&run, BUILTIN).pop(), found, "{bytes}");
    }
}

#[test]
fn what_ended_normally_has_no_more_bytes_than_the_relay_carried() {
    for (bytes, found) in [(60_000, None), (90_000, Some("more_bytes"))] {
        let mut run = Run::new();
        let pattern = format!("status=200 bytes={bytes} reason=reset");
        run.action(1, "forward", "GET", "http://a.test/x", &pattern);
        let row = json!({"status": 200, "bytes_down": 60_000});
        run.request(1, "forward", "GET http://a.test/x", "forwarded", &row);
        run.opened(80, 60_500);
        for around in [BUILTIN, PIPELOCK] {
            assert_eq!(named(&run, around).pop(), found, "{bytes}");
        }
    }
}

#[test]
fn an_answer_that_had_begun_is_signed_with_its_status() {
    for (pattern, found) in [
        ("status=200 bytes=47 reason=client_closed", None),
        ("status=200 bytes=47 reason=complete", None),
        (
            "status=0 bytes=47 reason=shutdown",
            Some("through_but_denied"),
        ),
        (
            "status=502 bytes=47 reason=fetch_failed",
            Some("through_but_denied"),
        ),
    ] {
        let mut run = Run::new();
        run.action(1, "forward", "GET", "http://a.test/x", pattern);
        let row = json!({"status": 200, "bytes_down": 47, "reason": "client_closed"});
        run.request(1, "forward", "GET http://a.test/x", "unfinished", &row);
        run.opened(80, 500);
        assert_eq!(named(&run, BUILTIN).first().copied(), found, "{pattern}");
    }
}

#[test]
fn a_request_that_failed_at_the_mediator_is_signed_as_failed() {
    let failed = |reason: &str| {
        let mut run = Run::new();
        let pattern = format!("status=502 bytes=0 reason={reason}");
        run.action(1, "forward", "GET", "http://a.test:8082/", &pattern);
        let row = json!({"status": 502, "reason": "upstream_failed", "port": 8082});
        run.request(1, "forward", "GET http://a.test:8082/", "failed", &row);
        run
    };
    let mut run = failed("dial_failed");
    assert_eq!(named(&run, BUILTIN), Vec::<&str>::new());
    run.drop_action(1);
    assert_eq!(named(&run, BUILTIN), ["denial_unsigned"]);
    assert_eq!(named(&run, PIPELOCK), ["denial_unsigned"]);
    assert_eq!(named(&run, OLD_PIPELOCK), Vec::<&str>::new());
    run.denial(1, "forward", "GET", "http://a.test:8082/");
    assert_eq!(named(&run, BUILTIN), ["failed_otherwise"]);
    // The mediator connected before the origin failed to answer.
    let mut run = failed("fetch_failed");
    assert_eq!(named(&run, BUILTIN), ["no_connection"]);
    run.opened(8082, 100);
    assert_eq!(named(&run, BUILTIN), Vec::<&str>::new());
    // The mediator signs the status of its answer.
    run.rewrite(1, &json!({"pattern": "status=0 bytes=0 reason=aborted"}));
    assert_eq!(named(&run, BUILTIN), ["failed_otherwise"]);
    let complete = failed("complete");
    assert_eq!(
        named(&complete, BUILTIN),
        ["failed_otherwise", "no_connection"]
    );
}
