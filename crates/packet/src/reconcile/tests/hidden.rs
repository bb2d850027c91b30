//! Targets with a hidden or missing part.
use serde_json::json;

use super::pipelock::agree;
use super::*;

#[test]
fn a_pipelock_hides_secrets_and_signs_messages() {
    let mut run = Run::new();
    // A message of an open WebSocket is denied first, and then the WebSocket itself.
    run.receipt(8, "", &json!({"verdict": "block", "transport": "websocket", "method": "WS", "target": "ws://a.test/b", "layer": "ws_protocol"}));
    run.action(
        9,
        "websocket",
        "WS",
        "ws://a.test/b",
        "status=1008 bytes=9 reason=policy_blocked",
    );
    run.receipt(9, "", &json!({"verdict": "block", "transport": "websocket", "method": "WS", "target": "ws://a.test/b", "layer": "session_close"}));
    run.request(
        9,
        "websocket",
        "GET ws://a.test/b",
        "forwarded",
        &json!({"status": 101}),
    );
    // One request has a secret in the path, and another request has a secret in the host.
    run.denial(10, "forward", "GET", "http://a.test/[redacted-path]");
    run.request(
        10,
        "forward",
        "GET http://a.test/AKIA0123456789ABCDEF",
        "answered",
        &json!({"status": 403}),
    );
    run.denial(11, "forward", "GET", "[redacted-target]");
    run.request(
        11,
        "forward",
        "GET http://long.a.test/",
        "answered",
        &json!({"status": 403}),
    );
    agree(&run);
}

#[test]
fn a_target_with_a_missing_part_is_compared_too() {
    let run = |transport: &str, method: &str, url: &str, pattern: &str| {
        let mut run = Run::new();
        run.action(1, transport, method, url, pattern);
        for id in [2, 3] {
            run.opened(if id == 2 { 80 } else { 443 }, 400);
        }
        run
    };
    // A tunnel without a port differs from the tunnel that was requested. A target without a scheme differs from the
    // target that was requested.
    let mut tunnel = run(
        "connect",
        "CONNECT",
        "https://a.test/",
        "status=200 bytes=9 reason=complete",
    );
    tunnel.request(
        1,
        "connect",
        "CONNECT a.test:443",
        "forwarded",
        &json!({"status": 200, "bytes_up": 9}),
    );
    let mut schemeless = run(
        "forward",
        "GET",
        "://a.test/x",
        "status=200 bytes=9 reason=complete",
    );
    schemeless.request(
        1,
        "forward",
        "GET http://a.test/x",
        "forwarded",
        &json!({"status": 200, "bytes_down": 9}),
    );
    for lie in [tunnel, schemeless] {
        assert!(named(&lie, PIPELOCK).contains(&"other_target"));
        assert!(named(&lie, BUILTIN).contains(&"other_target"));
    }
    let hidden = |pattern: &str| {
        let mut run = run("forward", "GET", "http://a.test/[redacted-path]", pattern);
        let row = json!({"status": 200, "bytes_down": 9});
        run.request(
            1,
            "forward",
            "GET http://a.test/AKIA0123456789ABCDEF",
            "forwarded",
            &row,
        );
        run
    };
    agree(&hidden("status=200 bytes=9 reason=complete"));
    assert_eq!(
        named(&hidden("status=418 bytes=9 reason=complete"), PIPELOCK),
        ["other_status", "other_bytes"]
    );
    assert_eq!(
        named(&hidden("status=200 bytes=0 reason=complete"), PIPELOCK),
        ["other_bytes"]
    );
    let mut late = hidden("status=200 bytes=9 reason=complete");
    late.rewrite(1, &json!({"timestamp": time(9)}));
    assert_eq!(named(&late, PIPELOCK), ["other_time"]);
}

/// Adds one request, its status and the bytes of its answer, as the relay and Pipelock show it.
fn forwarded(run: &mut Run, id: u64, row: &str, signed: &str, (status, bytes): (u16, u64)) {
    let pattern = format!("status={status} bytes={bytes} reason=complete");
    run.action(
        id,
        "forward",
        "GET",
        &format!("http://a.test{signed}"),
        &pattern,
    );
    let row = format!("GET http://a.test{row}");
    let facts = json!({"status": status, "bytes_down": bytes});
    run.request(id, "forward", &row, "forwarded", &facts);
    run.opened(80, bytes.saturating_add(400));
}

fn denied(run: &mut Run, id: u64, row: &str, signed: &str) {
    run.denial(id, "forward", "GET", &format!("http://a.test{signed}"));
    let row = format!("GET http://a.test{row}");
    run.request(id, "forward", &row, "answered", &json!({"status": 403}));
}

#[test]
fn the_relay_and_a_pipelock_may_redact_different_paths() {
    const LARGE: u64 = 1 << 20;
    let [both, ours, theirs] = [
        ("/[redacted-value]/x", "/[redacted-path]"),
        ("/bot/[redacted-value]", "/bot/bot123456:7Qz2mX8k"),
        ("/words/abandon-ability", "/[redacted-path]"),
    ];
    // Each pair of kinds occurs in one run, with every pair of endings.
    for (first, second) in [(both, ours), (both, theirs), (ours, theirs)] {
        let mut run = Run::new();
        forwarded(&mut run, 1, first.0, first.1, (200, 9));
        forwarded(&mut run, 2, second.0, second.1, (418, LARGE));
        agree(&run);
        let mut run = Run::new();
        forwarded(&mut run, 1, first.0, first.1, (418, LARGE));
        forwarded(&mut run, 2, second.0, second.1, (200, 9));
        agree(&run);
        let mut run = Run::new();
        denied(&mut run, 1, first.0, first.1);
        forwarded(&mut run, 2, second.0, second.1, (200, LARGE));
        agree(&run);
        let mut run = Run::new();
        forwarded(&mut run, 1, first.0, first.1, (200, LARGE));
        denied(&mut run, 2, second.0, second.1);
        agree(&run);
    }
}

#[test]
fn a_lie_about_a_redacted_path_is_named() {
    let run = |status: u16, bytes: u64| {
        let mut run = Run::new();
        forwarded(
            &mut run,
            1,
            "/[redacted-value]/x",
            "/[redacted-path]",
            (200, 9),
        );
        let pattern = format!("status={status} bytes={bytes} reason=complete");
        run.receipts[1]["pattern"] = json!(pattern);
        named(&run, PIPELOCK)
    };
    assert!(run(200, 9).is_empty());
    assert_eq!(run(418, 9), ["other_status", "other_bytes"]);
    assert_eq!(run(200, 8), ["other_bytes"]);
    // A denial of a request that went through.
    let mut lie = Run::new();
    forwarded(
        &mut lie,
        1,
        "/[redacted-value]/x",
        "/[redacted-path]",
        (200, 9),
    );
    lie.receipts.clear();
    lie.denial(1, "forward", "GET", "http://a.test/[redacted-path]");
    assert!(!named(&lie, PIPELOCK).is_empty());
}
