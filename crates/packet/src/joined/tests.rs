//! Tests that consistent rows have no contradictions, and that each contradiction is reported.
use egress_policy::opened::Opened;
use pipelock_receipts::json::{MAX_DEPTH, parse};
use serde_json::{Value, json};

use super::*;
use crate::format::boundary::AllowedSocket;

const PROXY: i64 = 8_888;

fn time(second: u64) -> String {
    format!("2026-11-24T10:00:{second:02}Z")
}

fn beat(second: u64) -> Value {
    json!({"source": "supervisor", "event": "heartbeat", "ts": time(second)})
}

/// Returns rows about a name, an attempt at its address with a repetition, an attempt at the
/// explicit proxy, and the bytes of both sides.
fn sound() -> Vec<Value> {
    let attempt = json!({
        "source": "kernel", "ts": time(2), "hook": "connect4", "verdict": "denied", "protocol": "udp", "sock_type": 2,
        "reason": "not_tcp", "process": "python3", "dst": "198.18.0.7", "port": 7, "name": "a.test", "family": 2,
        "uid": 0, "connect_ns": 5, "count": 1,
    });
    let mut repeats = attempt.clone();
    repeats["source"] = json!("kernel_repeats");
    repeats["count"] = json!(2);
    repeats["first"] = json!(time(2));
    repeats["last"] = json!(time(3));
    let mut proxy = attempt.clone();
    for (member, value) in [
        ("verdict", json!("proxy")),
        ("protocol", json!("tcp")),
        ("sock_type", json!(1)),
        ("reason", json!("")),
        ("dst", json!("127.0.0.1")),
        ("port", json!(PROXY)),
        ("name", json!(null)),
        ("cookie", json!(9)),
    ] {
        proxy[member] = value;
    }
    let unix = json!({
        "source": "kernel", "ts": time(2), "hook": "connect_unix", "verdict": "denied", "protocol": "unix",
        "sock_type": 5, "reason": "unix_socket", "path": "/run/nothing.sock", "uid": 0, "count": 1,
    });
    let datagram = json!({
        "source": "kernel_mediator", "ts": time(4), "opened": time(2), "connect_ns": 5, "protocol": "udp",
        "dst": "192.0.2.1", "port": 53, "bytes_sent": 30, "bytes_acked": 0, "bytes_received": 0,
    });
    vec![
        beat(0),
        json!({"source": "resolver", "ts": time(1), "name": "a.test", "address": "198.18.0.7"}),
        attempt,
        repeats,
        proxy,
        unix,
        json!({
            "source": "kernel_close", "ts": time(4), "cookie": 9, "connect_ns": 5, "bytes_sent": 7, "bytes_acked": 7,
            "bytes_received": 9,
        }),
        datagram,
        beat(5),
    ]
}

fn reasons(rows: &[Value], proxy_port: Option<i64>) -> Vec<String> {
    let mut joined = Joined::default();
    for row in rows {
        let text = row.to_string();
        let node = parse(&text, MAX_DEPTH).unwrap();
        joined.see(&Row::read(&node));
    }
    joined.finish(&BoundaryDocument::default(), proxy_port, &Allowed::UNKNOWN)
}

/// Returns the contradictions in a run with this document and policy.
fn reasons_with(rows: &[Value], document: &BoundaryDocument, allowed: &Allowed) -> Vec<String> {
    let mut joined = Joined::default();
    for row in rows {
        let text = row.to_string();
        let node = parse(&text, MAX_DEPTH).unwrap();
        joined.see(&Row::read(&node));
    }
    joined.finish(document, None, allowed)
}

#[test]
fn rows_that_fit_have_nothing_to_say() {
    assert_eq!(reasons(&sound(), Some(PROXY)), Vec::<String>::new());
    assert_eq!(reasons(&sound(), None), Vec::<String>::new());
}

/// Claims: compare-rows
#[test]
fn what_does_not_fit_is_named() {
    let socket_type = "an attempt has a socket type that does not fit its protocol or its hook";
    for (at, member, value, expected) in [
        (2, "sock_type", json!(1), socket_type),
        (5, "sock_type", json!(3), socket_type),
        (
            3,
            "name",
            json!("b.test"),
            "the stub resolver did not assign the address of an attempt to b.test",
        ),
        (
            4,
            "port",
            json!(PROXY + 1),
            "an attempt to reach the explicit proxy has another port",
        ),
        (
            6,
            "bytes_acked",
            json!(8),
            "more bytes were acknowledged than sent",
        ),
        (
            7,
            "bytes_acked",
            json!(30),
            "a datagram of the mediator has acknowledged or received bytes",
        ),
        (
            7,
            "bytes_received",
            json!(1),
            "a datagram of the mediator has acknowledged or received bytes",
        ),
        (
            7,
            "port",
            json!(54),
            "a datagram of the mediator is not a DNS query",
        ),
    ] {
        let mut rows = sound();
        rows[at][member] = value;
        assert_eq!(reasons(&rows, Some(PROXY)), [expected], "{at} {member}");
    }
}

#[test]
fn clock_excuses_no_more_than_the_times_of_the_heartbeats_show() {
    let end = |second: u64| {
        json!({
            "source": "supervisor", "event": "end", "ts": time(second), "clock_set_ms": 40_000,
        })
    };
    let resolver = |second: u64| json!({"source": "resolver", "ts": time(second), "reason": "x"});
    // The clock was set forward by 40 s before the last row, and the kernel's row shows the old time.
    let mut attempt = sound()[2].clone();
    attempt["name"] = json!(null);
    assert_eq!(
        reasons(&[beat(50), attempt.clone(), beat(20), end(21)], None),
        Vec::<String>::new()
    );
    // The heartbeats show no step, so the other rows are outside the run.
    assert_eq!(
        reasons(&[beat(50), attempt.clone(), beat(50), end(50)], None),
        ["rows are outside the time of the heartbeats"]
    );
    assert_eq!(
        reasons(&[beat(50), resolver(20), beat(50), end(50)], None),
        ["the times of rows go back"]
    );
}

#[test]
fn ipv6_of_the_attempts_is_that_of_the_document() {
    let mut document = BoundaryDocument::default();
    let attempt = |verdict: &str, reason: &str, dst: &str| {
        json!({
            "source": "kernel", "ts": time(2), "hook": "connect6", "verdict": verdict, "protocol": "tcp",
            "sock_type": 1, "reason": reason, "dst": dst, "port": 443, "family": 10, "uid": 0, "connect_ns": 5,
        })
    };
    let redirected = attempt("redirected", "", "2001:db8::1");
    let denied = attempt("denied", "ipv6_unavailable", "2001:db8::1");
    let mapped = attempt("redirected", "", "192.0.2.1");
    for (ipv6, row, fits) in [
        (true, &redirected, true),
        (true, &mapped, true),
        (true, &denied, false),
        (false, &redirected, false),
        (false, &mapped, true),
        (false, &denied, true),
    ] {
        document.ipv6 = ipv6;
        let rows = [beat(0), row.clone(), beat(5)];
        let expected: &[&str] = if fits {
            &[]
        } else {
            &["attempts contradict the statement about IPv6"]
        };
        assert_eq!(
            reasons_with(&rows, &document, &Allowed::UNKNOWN),
            expected,
            "{ipv6} {row}"
        );
    }
}

#[test]
fn connection_that_the_kernel_programs_deny_is_named() {
    let document = BoundaryDocument {
        allowed_ports: vec![80, 443],
        ..BoundaryDocument::default()
    };
    let listed = egress_policy::ssrf::Cidr::parse("127.0.0.0/8").unwrap();
    let nothing = Allowed::UNKNOWN.with_opened(Opened::default());
    let policy = Allowed::UNKNOWN.with_opened(Opened {
        listed: vec![listed],
        private: true,
    });
    for (dst, port, alone, with_policy) in [
        ("192.0.2.1", 443, true, true),
        ("192.0.2.1", 22, false, false),
        ("127.0.0.53", 53, true, true),
        ("127.0.0.1", 22, false, true),
        ("10.0.0.1", 80, false, true),
        ("169.254.169.254", 80, false, false),
        ("224.0.0.1", 80, false, false),
    ] {
        let rows = [
            beat(0),
            json!({
                "source": "kernel_mediator", "ts": time(4), "opened": time(2), "protocol": "tcp", "dst": dst,
                "port": port,
            }),
            beat(5),
        ];
        for (allowed, fits) in [
            (&nothing, alone),
            (&policy, with_policy),
            (&Allowed::UNKNOWN, true),
        ] {
            let found = reasons_with(&rows, &document, allowed);
            assert_eq!(found.is_empty(), fits, "{dst} {port} {found:?}");
        }
    }
}

#[test]
fn name_has_one_row_with_an_address_or_a_reason() {
    let row = |reason: &str, address: Value| json!({"source": "resolver", "ts": time(1), "name": "a.test", "reason": reason, "address": address});
    let address = || json!("198.18.0.7");
    for (rows, fits) in [
        (vec![row("", address())], true),
        (vec![row("exhausted", json!(null))], true),
        (vec![row("", json!(null))], false),
        (vec![row("exhausted", address())], false),
        (vec![row("", address()), row("", address())], false),
    ] {
        let rows = [vec![beat(0)], rows, vec![beat(5)]].concat();
        assert_eq!(reasons(&rows, None).is_empty(), fits, "{rows:?}");
    }
}

#[test]
fn use_of_a_socket_that_the_caller_did_not_open_is_named() {
    let row = json!({
        "source": "kernel", "ts": time(2), "hook": "connect_unix", "verdict": "allowed_unix", "protocol": "unix",
        "sock_type": 1, "reason": "", "path": "/run/docker.sock", "uid": 0, "count": 1,
    });
    let rows = [beat(0), row, beat(5)];
    let mut document = BoundaryDocument::default();
    assert_eq!(
        reasons_with(&rows, &document, &Allowed::UNKNOWN),
        ["the command used a host socket that the caller opened, but the caller opened none"]
    );
    document.allowed_unix.push(AllowedSocket::default());
    let found = reasons_with(&rows, &document, &Allowed::UNKNOWN);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn requests_that_the_relay_cannot_have_sent_or_denied_are_named() {
    let document = BoundaryDocument {
        allowed_ports: vec![80, 443],
        ..BoundaryDocument::default()
    };
    let forward = json!({
        "source": "relay", "ts": time(2), "host": "a.test", "port": 80, "protocol": "http", "transport": "forward",
        "target": "GET http://a.test/?[redacted-value]", "head_bytes": 60, "verdict": "forwarded", "reason": "",
        "status": 200,
    });
    let tunnel = json!({
        "source": "relay", "ts": time(2), "host": "a.test", "port": 443, "protocol": "tls", "transport": "connect",
        "target": "CONNECT a.test:443", "head_bytes": 0, "verdict": "forwarded", "reason": "", "status": 200,
        "bytes_up": 43, "bytes_down": 1,
    });
    let refused = json!({
        "source": "relay", "ts": time(2), "host": "a.test", "port": 80, "protocol": "http", "head_bytes": 0,
        "verdict": "refused", "reason": "malformed_target",
    });
    for (row, member, value, fits) in [
        (&forward, "head_bytes", json!(60), true),
        (&forward, "head_bytes", json!(18), true),
        (&forward, "head_bytes", json!(17), false),
        (&forward, "head_bytes", json!(0), false),
        (&forward, "head_bytes", json!(262_145), false),
        (&tunnel, "head_bytes", json!(0), true),
        (&tunnel, "head_bytes", json!(1), false),
        (&tunnel, "protocol", json!("http"), false),
        (&refused, "head_bytes", json!(0), true),
        (&refused, "head_bytes", json!(1), false),
        (&refused, "bytes_up", json!(1), false),
        (&refused, "status", json!(403), false),
        (&refused, "target", json!("GET http://a.test/"), false),
        (&refused, "reason", json!("name_mismatch"), true),
        (&refused, "reason", json!("not_tls"), false),
        (&refused, "reason", json!("client_silent"), false),
        (&refused, "reason", json!("loopback"), false),
        (&refused, "port", json!(22), false),
        (&refused, "host", json!(null), false),
        (&refused, "orig_dst", json!("198.18.0.7:80"), true),
        (&refused, "orig_dst", json!("198.18.0.7:443"), false),
        (&refused, "verdict", json!("unfinished"), false),
        (&refused, "verdict", json!("failed"), false),
    ] {
        let mut row = row.clone();
        row[member] = value;
        let found = reasons_with(
            &[beat(0), row.clone(), beat(5)],
            &document,
            &Allowed::UNKNOWN,
        );
        assert_eq!(found.is_empty(), fits, "{row}: {found:?}");
    }
}

#[test]
fn verdict_about_a_unix_socket_is_one_that_its_path_can_have() {
    for (hook, kind, verdict, path, fits) in [
        ("connect_unix", 1, "unreachable", "/run/a.sock", true),
        ("connect_unix", 1, "unreachable", "/run/nscd/socket", false),
        ("connect_unix", 1, "unreachable", "…", true),
        ("connect_unix", 1, "probe", "/run/nscd/socket", true),
        ("connect_unix", 1, "probe", "/run/a.sock", false),
        ("connect_unix", 1, "unread", "", true),
        ("connect_unix", 1, "unread", "/run/a.sock", false),
        ("sendmsg_unix", 2, "unreachable", "/run/a.sock", true),
        ("sendmsg_unix", 1, "unreachable", "/run/a.sock", false),
    ] {
        let row = json!({
            "source": "kernel", "ts": time(2), "hook": hook, "verdict": verdict, "protocol": "unix", "sock_type": kind,
            "reason": "not_in_the_boundary", "path": path, "uid": 0, "count": 1,
        });
        let found = reasons(&[beat(0), row, beat(5)], None);
        assert_eq!(found.is_empty(), fits, "{hook} {verdict} {path}: {found:?}");
    }
}
