//! Tests that consistent rows have no contradictions, and that each contradiction is reported.
use pipelock_receipts::json::{MAX_DEPTH, parse};
use serde_json::{Value, json};

use super::*;

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
    joined.finish(&BoundaryDocument::default(), proxy_port)
}

#[test]
fn rows_that_fit_have_nothing_to_say() {
    assert_eq!(reasons(&sound(), Some(PROXY)), Vec::<String>::new());
    assert_eq!(reasons(&sound(), None), Vec::<String>::new());
}

/// Claims: compare-rows
#[test]
fn what_does_not_fit_is_named() {
    let socket_type = "an attempt has a socket type that its protocol does not have";
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
