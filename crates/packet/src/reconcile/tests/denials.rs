//! Denied tunnels of a Pipelock, and statuses, bytes, and times that fit only one at a time.
use serde_json::json;

use super::*;

const TUNNEL: &str = "https://a.test:443/";

fn tunnel(members: &Value) -> Run {
    let mut run = Run::new();
    run.request(1, "connect", "CONNECT a.test:443", "blocked", members);
    run
}

fn blocked() -> Value {
    json!({"status": 403, "reason": "ssrf:ssrf_private_ip"})
}

/// Signs a tunnel that was denied when its address was known, and returns the run.
fn denied_later(layer: &str, pattern: &str) -> Run {
    let mut run = tunnel(&blocked());
    let facts = json!({"transport": "connect", "method": "CONNECT", "target": TUNNEL});
    run.receipt(1, "intent", &facts);
    let mut denial = facts.clone();
    merge(&mut denial, &json!({"verdict": "block", "layer": layer}));
    run.receipt(1, "", &denial);
    let mut outcome = facts;
    merge(
        &mut outcome,
        &json!({"layer": "outcome", "pattern": pattern}),
    );
    run.receipt(1, "outcome", &outcome);
    run
}

#[test]
fn a_denied_tunnel_is_signed_as_denied() {
    for pattern in [
        "status=200 bytes=4000 reason=complete",
        "status=200 bytes=4000 reason=cut",
        "status=403 bytes=unknown reason=cut",
        "status=unknown bytes=unknown reason=incomplete",
        "status=403 bytes=unknown reason=ssrf_dns_rebind",
    ] {
        let mut run = tunnel(&blocked());
        run.action(1, "connect", "CONNECT", TUNNEL, pattern);
        let found = named(&run, PIPELOCK);
        assert!(
            found.contains(&"denied_but_allowed"),
            "{pattern}: {found:?}"
        );
    }
    // The outcome of a denial is that of a tunnel that never opened.
    for (pattern, found) in [
        ("status=403 bytes=unknown reason=ssrf_private_ip", &[][..]),
        ("status=200 bytes=unknown reason=cut", &["other_status"]),
        ("status=200 bytes=0 reason=complete", &["other_status"]),
        ("status=403 bytes=900 reason=cut", &["unknown_verdict"]),
    ] {
        let run = denied_later("ssrf", pattern);
        assert_eq!(named(&run, PIPELOCK), found, "{pattern}");
    }
}

#[test]
fn the_layer_of_a_denied_tunnel_is_that_of_its_answer() {
    for (layer, found) in [("ssrf", &[][..]), ("allowlist", &["other_layer"])] {
        let outcome = "status=403 bytes=unknown reason=ssrf_private_ip";
        let run = denied_later(layer, outcome);
        assert_eq!(named(&run, PIPELOCK), found, "{layer}");
    }
    let mut run = tunnel(&json!({"status": 403, "reason": "allowlist:not_in_allowlist"}));
    run.denial(1, "connect", "CONNECT", TUNNEL);
    assert_eq!(named(&run, PIPELOCK), Vec::<&str>::new());
    run.rewrite(1, &json!({"layer": "dlp"}));
    assert_eq!(named(&run, PIPELOCK), ["other_layer"]);
    assert_eq!(named(&run, OLD_PIPELOCK), Vec::<&str>::new());
}

#[test]
fn no_more_tunnels_are_signed_as_open_than_were_opened() {
    let opened = |status: u16, pattern: &str| {
        let mut run = Run::new();
        let row = json!({"status": status, "reason": "mediator_500"});
        run.request(1, "connect", "CONNECT a.test:443", "failed", &row);
        run.action(1, "connect", "CONNECT", TUNNEL, pattern);
        run.opened(443, 0);
        named(&run, PIPELOCK)
    };
    // In the row of an open tunnel, the status may be that of the origin, and the origin may have closed the tunnel.
    for (status, verdict, reason) in [
        (404, "forwarded", ""),
        (304, "forwarded", ""),
        (101, "unfinished", "client_closed"),
        (200, "unfinished", "mediator_closed"),
    ] {
        let mut run = Run::new();
        let row = json!({"status": status, "reason": reason});
        run.request(1, "connect", "CONNECT a.test:80", verdict, &row);
        let pattern = "status=200 bytes=0 reason=complete";
        run.action(1, "connect", "CONNECT", "https://a.test:80/", pattern);
        run.opened(80, 0);
        assert_eq!(named(&run, PIPELOCK), Vec::<&str>::new(), "{status}");
    }
    assert_eq!(
        opened(500, "status=500 bytes=unknown reason=hijack_failed"),
        Vec::<&str>::new()
    );
    assert_eq!(
        opened(500, "status=200 bytes=0 reason=sni_mismatch"),
        ["other_status"]
    );
}

#[test]
fn a_status_and_its_bytes_belong_to_one_answer() {
    let honest = [
        "status=200 bytes=10 reason=complete",
        "status=404 bytes=20 reason=complete",
    ];
    let swapped = [
        "status=404 bytes=10 reason=complete",
        "status=200 bytes=20 reason=complete",
    ];
    let signed = |patterns: [&str; 2], around: Circumstances| {
        let mut run = Run::new();
        for (id, (status, bytes)) in [(1, (200, 10)), (2, (404, 20))] {
            let row = json!({"status": status, "bytes_down": bytes});
            run.request(id, "forward", "GET http://a.test/", "forwarded", &row);
            run.opened(80, 100);
        }
        for (id, pattern) in [1, 2].into_iter().zip(patterns) {
            run.action(id, "forward", "GET", "http://a.test/", pattern);
        }
        named(&run, around)
    };
    for around in [BUILTIN, PIPELOCK] {
        assert_eq!(signed(honest, around), Vec::<&str>::new());
        assert_eq!(signed(swapped, around), ["other_bytes"]);
    }
}

#[test]
fn the_span_of_a_transcript_root_is_a_time_of_the_evidence() {
    let entry = json!({
        "v": 2, "seq": 0, "ts": "2026-11-29T10:00:00Z", "session_id": "proxy", "type": "transcript_root",
        "prev_hash": "genesis", "hash": "00",
        "detail": {"start_time": "2026-11-29T10:00:00Z", "end_time": "2026-11-30T10:00:00Z"},
    });
    let line = format!("{entry}\n");
    let file = EvidenceFile {
        name: "evidence.jsonl",
        bytes: line.as_bytes(),
    };
    let report = check_evidence_visiting(&[file], &Trust::default(), &mut |_| ());
    let around = Circumstances::of(None, &report);
    let (first, last) = around.written.unwrap();
    assert_eq!((last - first).whole_hours(), 24);
}

#[test]
fn every_entry_is_from_the_time_of_the_run() {
    let start = millis(&time(0)).unwrap();
    let end = millis(&time(59)).unwrap();
    let mut run = Run::honest();
    run.rows.push(beat(59));
    let moment = |ms: i64| {
        let ns = i128::from(ms) * 1_000_000;
        time::OffsetDateTime::from_unix_timestamp_nanos(ns).unwrap()
    };
    let outside = |from: i64, until: i64| {
        let around = Circumstances {
            written: Some((moment(from), moment(until))),
            preparation: 2_000,
            ..BUILTIN
        };
        let found = run.compare(around);
        found.disagreements.get(&Disagreement::OutsideRun).copied()
    };
    assert_eq!(outside(start - 17_000, end + 15_000), None);
    assert_eq!(outside(start - 18_001, end), Some(16));
    assert_eq!(outside(start, end + 86_400_000), Some(86_400));
}

/// The last words are those of Pipelock 3.2 when the other side closes the WebSocket during a scan.
#[test]
fn a_denied_message_is_no_other_action_whatever_denied_it() {
    let facts = json!({"transport": "websocket", "method": "WS", "target": "ws://a.test/ws"});
    for layer in [
        "address_protection",
        "body_prompt_injection",
        "cross_request",
        "dlp",
        "media_policy",
        "redaction",
        "response_scan",
        "ws_protocol",
    ] {
        let mut run = Run::new();
        let pattern = "status=1008 bytes=0 reason=policy_blocked";
        run.receipt(1, "intent", &facts);
        let words = "request body contains prompt injection: context_canceled";
        let mut message = json!({"verdict": "block", "layer": layer, "pattern": words});
        merge(&mut message, &facts);
        run.receipt(2, "", &message);
        let mut outcome = json!({"layer": "outcome", "pattern": pattern});
        merge(&mut outcome, &facts);
        run.receipt(1, "outcome", &outcome);
        let mut close = json!({"verdict": "block", "layer": "session_close"});
        merge(&mut close, &facts);
        run.receipt(1, "", &close);
        let row =
            json!({"status": 101, "bytes_up": 32776, "bytes_down": 19, "reason": "client_closed"});
        run.request(1, "websocket", "GET ws://a.test/ws", "unfinished", &row);
        let both = run.compare(PIPELOCK);
        assert_eq!(both.losses(), Vec::<String>::new(), "{layer}");
        assert_eq!((both.asked, both.receipted), (1, 1), "{layer}");
    }
}
