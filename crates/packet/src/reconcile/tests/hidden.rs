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
