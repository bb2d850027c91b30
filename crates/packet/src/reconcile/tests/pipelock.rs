//! Consistent runs of a Pipelock, and edits of its receipts that contradict the other records.
use serde_json::json;

use super::*;

#[test]
fn a_pipelock_denies_at_three_times() {
    let mut run = Run::new();
    // Denials of a request, of an address, and of an answer.
    run.denial(1, "connect", "CONNECT", "https://denied.test:443/");
    run.request(
        1,
        "connect",
        "CONNECT denied.test:443",
        "blocked",
        &json!({"status": 403}),
    );
    run.receipt(
        2,
        "intent",
        &json!({"transport": "connect", "method": "CONNECT", "target": "https://a.test:443/"}),
    );
    run.receipt(2, "", &json!({
        "verdict": "block", "transport": "connect", "method": "CONNECT", "target": "https://a.test:443/",
        "layer": "ssrf", "pattern": "ssrf_dns_rebind",
    }));
    run.receipt(
        2,
        "outcome",
        &json!({
            "transport": "connect", "method": "CONNECT", "target": "https://a.test:443/",
            "pattern": "status=403 bytes=unknown reason=ssrf_dns_rebind",
        }),
    );
    run.request(
        2,
        "connect",
        "CONNECT a.test:443",
        "blocked",
        &json!({"status": 403}),
    );
    run.action(
        3,
        "forward",
        "GET",
        "http://a.test/gz",
        "status=403 bytes=10 reason=compressed_response",
    );
    run.request(
        3,
        "forward",
        "GET http://a.test/gz",
        "answered",
        &json!({"status": 403, "reason": "answered_403"}),
    );
    agree(&run);
}

/// Checks that nothing is lost and that every request has a receipt.
pub(super) fn agree(run: &Run) {
    let both = run.compare(PIPELOCK);
    assert_eq!(both.losses(), Vec::<String>::new());
    assert_eq!(both.asked, both.receipted);
}

#[test]
fn a_pipelock_counts_and_answers_in_its_own_way() {
    let mut run = Run::new();
    // An origin answers like a mediator, and the request is signed as allowed.
    run.action(
        4,
        "forward",
        "GET",
        "http://a.test/f",
        "status=403 bytes=9 reason=complete",
    );
    run.request(
        4,
        "forward",
        "GET http://a.test/f",
        "answered",
        &json!({"status": 403, "bytes_up": 3_000_000, "bytes_down": 9}),
    );
    // Pipelock signs only the bytes of the answer, and not all bytes of a tunnel.
    run.action(
        5,
        "forward",
        "PUT",
        "http://a.test/p",
        "status=200 bytes=2200 reason=complete",
    );
    run.request(
        5,
        "forward",
        "PUT http://a.test/p",
        "forwarded",
        &json!({"status": 200, "bytes_up": 30_000, "bytes_down": 2200}),
    );
    run.action(
        6,
        "connect",
        "CONNECT",
        "https://a.test:443/",
        "status=200 bytes=43342 reason=complete",
    );
    run.request(
        6,
        "connect",
        "CONNECT a.test:443",
        "forwarded",
        &json!({"bytes_up": 130_000, "bytes_down": 448}),
    );
    // The mediator answers 101 before it connects.
    run.action(
        7,
        "websocket",
        "WS",
        "ws://a.test/no",
        "status=1011 bytes=0 reason=upstream_dial_failed",
    );
    run.request(
        7,
        "websocket",
        "GET ws://a.test/no",
        "unfinished",
        &json!({"status": 101}),
    );
    // A tunnel is open when the mediator receives the signal to stop.
    run.receipt(
        12,
        "intent",
        &json!({"transport": "connect", "method": "CONNECT", "target": "https://c.test:443/"}),
    );
    run.request(
        12,
        "connect",
        "CONNECT c.test:443",
        "unfinished",
        &json!({"bytes_up": 9, "reason": "stopped"}),
    );
    // Pipelock does not sign the connections of redirects that it follows.
    for _ in 0..9 {
        run.opened(80, 1_000_000);
    }
    agree(&run);
}

#[test]
fn every_lie_of_a_pipelock_is_named_that_can_be() {
    let base = || {
        let mut run = Run::new();
        run.action(
            1,
            "forward",
            "GET",
            "http://a.test/x",
            "status=200 bytes=47 reason=complete",
        );
        run.request(
            1,
            "forward",
            "GET http://a.test/x",
            "forwarded",
            &json!({"status": 200, "bytes_down": 47}),
        );
        run.opened(80, 400);
        run
    };
    let expect = |expected: &str, lie: &dyn Fn(&mut Run)| {
        let mut run = base();
        assert_eq!(named(&run, PIPELOCK), Vec::<&str>::new());
        lie(&mut run);
        let found = named(&run, PIPELOCK);
        assert!(found.contains(&expected), "{expected} is not in {found:?}");
    };
    let denied: &dyn Fn(&mut Run) = &|run| {
        run.drop_action(1);
        run.denial(1, "forward", "GET", "http://a.test/x");
    };
    expect("through_but_denied", denied);
    expect("denied_with_bytes", denied);
    // Pipelock signs the end of a WebSocket with the layer `session_close`. For any other request,
    // a receipt with this layer still counts as a denial.
    expect("through_but_denied", &|run| {
        denied(run);
        run.rewrite(1, &json!({"layer": "session_close"}));
    });
    expect("other_bytes", &|run| {
        run.receipts[1]["pattern"] = json!("status=200 bytes=0 reason=complete");
    });
    expect("through_but_denied", &|run| {
        run.receipts[1]["pattern"] = json!("status=502 bytes=unknown reason=dial_failed");
    });
    expect("intercepted", &|run| {
        run.action(
            2,
            "intercept",
            "GET",
            "https://a.test:443/",
            "status=200 bytes=1 reason=complete",
        );
    });
    // A hidden target matches neither a request that went through nor a path that is too short to hide anything.
    for target in ["[redacted-target]", "http://a.test/[redacted-path]"] {
        let mut run = base();
        run.rewrite(1, &json!({"target": target}));
        assert!(!run.compare(PIPELOCK).losses().is_empty(), "{target}");
    }
}

#[test]
fn requests_inside_tls_belong_to_a_tunnel() {
    let opens = |around| Circumstances {
        intercepts: true,
        ..around
    };
    let mut run = Run::new();
    for id in [1, 2] {
        run.action(
            id,
            "intercept",
            "GET",
            "https://d.test:443/1",
            "status=200 bytes=1 reason=complete",
        );
    }
    run.request(
        3,
        "connect",
        "CONNECT d.test:443",
        "forwarded",
        &json!({"bytes_up": 9, "bytes_down": 9}),
    );
    run.opened(443, 100);
    assert_eq!(
        run.compare(PIPELOCK).disagreements[&Disagreement::Intercepted],
        2
    );
    // These receipts replace the receipt of the tunnel, because an older Pipelock does not sign the
    // tunnel.
    let both = run.compare(opens(OLD_PIPELOCK));
    assert_eq!((both.receipted, both.unsigned, both.said_alone), (1, 0, 2));
    assert_eq!(run.compare(opens(PIPELOCK)).unsigned, 1);
    run.action(
        3,
        "connect",
        "CONNECT",
        "https://d.test:443/",
        "status=200 bytes=18 reason=complete",
    );
    let both = run.compare(opens(PIPELOCK));
    assert_eq!(both.losses(), Vec::<String>::new());
    assert_eq!((both.asked, both.receipted, both.said_alone), (1, 1, 2));
    run.drop_action(3);
    run.rows.retain(|row| row["source"] != "relay");
    assert_eq!(run.compare(opens(PIPELOCK)).unasked, 2);
}

#[test]
fn an_old_pipelock_leaves_out_the_port_and_what_failed() {
    let mut run = Run::new();
    run.receipt(
        1,
        "",
        &json!({"transport": "connect", "method": "CONNECT", "target": "https://A.test./"}),
    );
    run.request(
        1,
        "connect",
        "CONNECT a.test:8443",
        "forwarded",
        &json!({"bytes_up": 9, "bytes_down": 9}),
    );
    run.request(
        2,
        "connect",
        "CONNECT a.test:443",
        "failed",
        &json!({"reason": "mediator_502", "status": 502}),
    );
    run.opened(8443, 100);
    let both = run.compare(OLD_PIPELOCK);
    assert_eq!(both.losses(), Vec::<String>::new());
    assert_eq!((both.asked, both.receipted), (2, 1));
    assert_eq!(both.without_receipt["mediator_502, status 502"], 1);
}

#[test]
fn a_log_of_an_earlier_version_is_compared_as_it_was() {
    let mut run = Run::new();
    for (id, transport, target) in [
        (1, "connect", "https://a.test:443/"),
        (2, "forward", "http://b.test/x"),
        (3, "websocket", "ws://c.test/"),
    ] {
        run.receipt(id, "", &json!({"transport": transport, "target": target}));
    }
    for (transport, host) in [
        ("connect", "a.test"),
        ("forward", "b.test"),
        ("websocket", "c.test"),
    ] {
        run.rows.push(json!({"source": "relay", "transport": transport, "host": host, "verdict": "forwarded", "reason": ""}));
    }
    let before = Circumstances {
        redacts: true,
        ..Circumstances::default()
    };
    assert_eq!(run.compare(before).losses(), Vec::<String>::new());
    run.receipts.remove(1);
    assert_eq!(run.compare(before).unsigned, 1);
}

#[test]
fn what_was_cut_is_held_against_the_receipts_too() {
    let cut = |members: Value| {
        let mut run = Run::new();
        run.request(1, "connect", "CONNECT a.test:443", "unfinished", &members);
        run.opened(443, 3_000_000);
        run
    };
    let open = json!({"status": 200, "bytes_up": 3_000_000, "bytes_down": 4_000_000});
    let mut run = cut(open);
    assert_eq!(run.compare(PIPELOCK).unsigned, 1);
    assert_eq!(run.compare(OLD_PIPELOCK).unsigned, 0);
    run.denial(1, "connect", "CONNECT", "https://a.test:443/");
    let found = named(&run, PIPELOCK);
    assert_eq!(found, ["through_but_denied", "denied_with_bytes"]);
    // Only the kernel records whether a request without an answer reached the origin.
    let mut run = cut(json!({"bytes_up": 4_000}));
    run.denial(1, "connect", "CONNECT", "https://a.test:443/");
    run.action(
        2,
        "connect",
        "CONNECT",
        "https://a.test:8443/",
        "status=200 bytes=9 reason=complete",
    );
    let row = json!({"bytes_up": 9, "bytes_down": 9, "status": 200});
    run.request(2, "connect", "CONNECT a.test:8443", "forwarded", &row);
    run.opened(8443, 100);
    assert_eq!(named(&run, PIPELOCK), ["denied_with_bytes"]);
}

#[test]
fn an_answer_was_a_denial_if_the_receipts_say_so() {
    let mut receipts = Receipts::default();
    for (id, verdict, target, layer) in [
        ("1", "block", "http://A.test./x", "allowlist"),
        ("2", "allow", "http://b.test/x", ""),
        ("3", "block", "http://b.test/y", "body_dlp"),
    ] {
        receipts.add(&Receipt {
            transport: "forward",
            method: "GET",
            id,
            verdict,
            target,
            layer,
            ..Receipt::default()
        });
    }
    receipts.add(&Receipt {
        transport: "forward",
        method: "GET",
        id: "4",
        verdict: "allow",
        target: "http://b.test/z",
        layer: "outcome",
        phase: "outcome",
        pattern: "status=403 bytes=9 reason=compressed_response",
        ..Receipt::default()
    });
    let of = |host| {
        (
            receipts.denials_by_list(host),
            receipts.denials(host, 403),
            receipts.denials(host, 429),
        )
    };
    assert_eq!(of("a.test"), (1, 1, 1));
    // Another denial does not confirm a denial by the allow-list, and a cut action confirms only a
    // denial with its own status.
    assert_eq!(of("b.test"), (0, 2, 1));
}

#[test]
fn what_went_through_was_not_denied_because_of_its_answer() {
    // The outcome of every allowed action becomes a denial of the answer.
    let mut run = Run::new();
    let target = ("forward", "GET", "http://a.test/x");
    run.receipt(
        1,
        "intent",
        &json!({"transport": target.0, "method": target.1, "target": target.2}),
    );
    run.receipt(1, "", &json!({
        "transport": target.0, "method": target.1, "target": target.2, "verdict": "block", "layer": "response_scan",
    }));
    let row = json!({"status": 200, "bytes_down": 47});
    run.request(1, "forward", "GET http://a.test/x", "forwarded", &row);
    assert_eq!(named(&run, PIPELOCK), ["through_but_denied"]);
    // A WebSocket that received more than a close frame was not denied when the mediator connected.
    for (down, found) in [(100, &[][..]), (500, &["through_but_denied"][..])] {
        let mut run = Run::new();
        let pattern = "status=1011 bytes=0 reason=upstream_dial_failed";
        run.action(1, "websocket", "WS", "ws://a.test/ws", pattern);
        let row = json!({"status": 101, "bytes_up": 10, "bytes_down": down});
        run.request(1, "websocket", "GET ws://a.test/ws", "forwarded", &row);
        assert_eq!(named(&run, PIPELOCK), found, "{down}");
    }
}

#[test]
fn what_ended_in_order_was_not_cut_without_an_answer() {
    for (pattern, found) in [
        ("status=200 bytes=90000 reason=client_disconnected", &[][..]),
        (
            "status=0 bytes=0 reason=client_cancelled",
            &["through_but_denied", "fewer_bytes"][..],
        ),
        (
            "status=403 bytes=90000 reason=client_disconnected",
            &["other_status"][..],
        ),
        (
            "status=200 bytes=9 reason=client_disconnected",
            &["fewer_bytes"][..],
        ),
    ] {
        let mut run = Run::new();
        run.action(1, "forward", "GET", "http://a.test/x", pattern);
        let row = json!({"status": 200, "bytes_down": 90_000});
        run.request(1, "forward", "GET http://a.test/x", "forwarded", &row);
        run.opened(80, 90_500);
        for around in [BUILTIN, PIPELOCK] {
            let mut named = named(&run, around);
            named.retain(|what| *what != "unknown_verdict");
            assert_eq!(named, found, "{pattern}");
        }
    }
}

#[test]
fn a_denial_by_the_list_is_of_a_host_that_it_does_not_have() {
    let mut run = Run::new();
    run.denial(1, "forward", "POST", "http://a.test/x");
    let row = json!({"status": 403, "reason": "answered_403", "bytes_up": 30_000});
    run.request(1, "forward", "POST http://a.test/x", "answered", &row);
    run.allowed = strict(&["b.test"]);
    assert_eq!(named(&run, PIPELOCK), Vec::<&str>::new());
    run.allowed = strict(&["a.test"]);
    assert_eq!(named(&run, PIPELOCK), ["denied_though_listed"]);
}

#[test]
fn a_denial_by_the_list_may_be_of_a_redirect() {
    let mut run = Run::new();
    let facts = json!({"transport": "forward", "method": "GET", "target": "http://a.test/x"});
    run.receipt(1, "intent", &facts);
    run.denial(1, "forward", "GET", "http://a.test/x");
    run.receipt(1, "outcome", &facts);
    let outcome =
        json!({"layer": "outcome", "pattern": "status=403 bytes=unknown reason=allowlist"});
    merge(run.receipts.last_mut().unwrap(), &outcome);
    let row = json!({"status": 403, "reason": "answered_403"});
    run.request(1, "forward", "GET http://a.test/x", "answered", &row);
    run.opened(80, 500);
    run.allowed = strict(&["a.test"]);
    assert_eq!(named(&run, PIPELOCK), Vec::<&str>::new());
}
