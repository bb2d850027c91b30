//! Tests that requests which the relay cannot have ended as their rows state are named.
use pipelock_receipts::json::{MAX_DEPTH, parse};
use serde_json::{Value, json};

use super::super::super::format::Row;
use super::super::super::format::boundary::MediatorDocument;
use super::*;

fn forward() -> Value {
    json!({
        "source": "relay", "host": "a.test", "port": 80, "protocol": "http", "transport": "forward",
        "target": "GET http://a.test/", "head_bytes": 60, "verdict": "forwarded", "reason": "", "status": 200,
    })
}

fn tunnel() -> Value {
    json!({
        "source": "relay", "host": "a.test", "port": 443, "protocol": "tls", "transport": "connect",
        "target": "CONNECT a.test:443", "verdict": "forwarded", "reason": "", "status": 200,
        "bytes_up": 43, "bytes_down": 1,
    })
}

/// Returns the contradictions of one row in a run with this mediator.
fn reasons(row: &Value, mediator: MediatorDocument) -> Vec<String> {
    let text = row.to_string();
    let node = parse(&text, MAX_DEPTH).unwrap();
    let mut joined = Joined::default();
    let read = Row::read(&node);
    let Row::Relay(row) = &read else {
        panic!("{read:?}")
    };
    joined.ending(row);
    let document = BoundaryDocument {
        mediator,
        ..BoundaryDocument::default()
    };
    joined.denials(&document);
    joined.noted.into_reasons()
}

#[test]
fn end_of_a_request_is_one_that_the_relay_records() {
    let none = json!(null);
    for (row, verdict, reason, status, fits) in [
        (forward(), "forwarded", "", json!(200), true),
        (forward(), "failed", "client_closed", none.clone(), true),
        (forward(), "failed", "client_closed", json!(200), false),
        (forward(), "failed", "upstream_failed", json!(502), true),
        (forward(), "failed", "upstream_failed", json!(200), false),
        (forward(), "failed", "mediator_404", json!(404), true),
        (forward(), "failed", "mediator_404", json!(403), false),
        (forward(), "failed", "malformed_chunk", json!(200), true),
        (forward(), "failed", "not_tls", none.clone(), false),
        (forward(), "unfinished", "stopped", json!(200), true),
        (forward(), "unfinished", "answer_cut", json!(200), true),
        (forward(), "unfinished", "early_answer", none.clone(), false),
        (
            forward(),
            "unfinished",
            "mediator_timeout",
            none.clone(),
            true,
        ),
        (forward(), "unfinished", "mediator_status", none, true),
        (forward(), "unfinished", "idle", json!(200), false),
        (forward(), "unfinished", "no_answer", json!(200), false),
        (
            forward(),
            "unfinished",
            "mediator_status",
            json!(101),
            false,
        ),
        (tunnel(), "unfinished", "client_hello", json!(200), true),
        (tunnel(), "unfinished", "stopped", json!(403), false),
        (tunnel(), "unfinished", "answer_cut", json!(200), false),
        (tunnel(), "failed", "malformed_chunk", json!(200), false),
    ] {
        let mut row = row;
        row["verdict"] = json!(verdict);
        row["reason"] = json!(reason);
        row["status"] = status;
        let found = reasons(&row, MediatorDocument::default());
        assert_eq!(found.is_empty(), fits, "{row}: {found:?}");
    }
}

#[test]
fn bytes_and_time_of_a_tunnel_fit_its_end() {
    const IDLE: u64 = 600_000_000;
    for (verdict, reason, bytes, duration, fits) in [
        ("forwarded", "", (43, 1), 1, true),
        ("forwarded", "", (42, 1), 1, false),
        ("forwarded", "", (43, 0), 1, false),
        ("unfinished", "idle", (43, 1), IDLE, true),
        ("unfinished", "idle", (43, 1), IDLE - 1, false),
        ("unfinished", "idle", (43, 0), IDLE, false),
        ("unfinished", "no_answer", (43, 0), 1, true),
        ("unfinished", "no_answer", (43, 1), 1, false),
        ("unfinished", "name_mismatch", (43, 0), 1, true),
        ("unfinished", "name_mismatch", (42, 0), 1, false),
        ("failed", "mediator_200", (0, 0), 1, true),
        ("failed", "mediator_200", (0, 1), 1, false),
    ] {
        let mut row = tunnel();
        row["verdict"] = json!(verdict);
        row["reason"] = json!(reason);
        row["bytes_up"] = json!(bytes.0);
        row["bytes_down"] = json!(bytes.1);
        row["duration_us"] = json!(duration);
        let found = reasons(&row, MediatorDocument::default());
        assert_eq!(found.is_empty(), fits, "{row}: {found:?}");
    }
}

#[test]
fn relay_stops_after_the_end_of_the_command() {
    let gone = json!({"source": "supervisor", "event": "agent_gone"});
    let row = |status: Value| {
        let mut row = forward();
        row["verdict"] = json!("unfinished");
        row["reason"] = json!("stopped");
        row["status"] = status;
        row
    };
    let (answered, unanswered) = (row(json!(200)), row(json!(null)));
    for (rows, fits) in [
        (vec![&gone, &answered], true),
        (vec![&answered, &gone], false),
        (vec![&answered], true),
        (vec![&unanswered, &gone], true),
    ] {
        let mut joined = Joined::default();
        for row in &rows {
            let text = row.to_string();
            joined.see(&Row::read(&parse(&text, MAX_DEPTH).unwrap()));
        }
        joined.stopped();
        let found = joined.noted.into_reasons();
        let is_named = found.iter().any(|reason| reason.contains("it stopped"));
        assert_eq!(!is_named, fits, "{rows:?}: {found:?}");
    }
}

#[test]
fn denial_is_one_of_the_mediator_of_the_run() {
    let builtin = || MediatorDocument::Builtin {
        posture: <_>::default(),
    };
    let pipelock = || MediatorDocument::Pipelock {
        plain_http: <_>::default(),
        pipelock: Box::default(),
    };
    for (row, reason, by_builtin, by_pipelock) in [
        (forward(), "allowlist:not_in_allowlist", true, false),
        (tunnel(), "allowlist:not_in_allowlist", true, true),
        (tunnel(), "allowlist", false, true),
        (tunnel(), "mediator_403", true, true),
        (tunnel(), "mediator_404", false, true),
        (tunnel(), "allowlist:not in allowlist", false, false),
        (tunnel(), "a:b:c", false, false),
        (tunnel(), "allowlist:", false, false),
    ] {
        let mut row = row;
        row["verdict"] = json!("blocked");
        row["bytes_up"] = json!(0);
        row["bytes_down"] = json!(0);
        row["reason"] = json!(reason);
        row["status"] = json!(403);
        for (mediator, fits) in [(builtin(), by_builtin), (pipelock(), by_pipelock)] {
            let found = reasons(&row, mediator);
            assert_eq!(found.is_empty(), fits, "{row}: {found:?}");
        }
    }
    let answered = |row: Value, status: u16, claimed: Option<&str>| {
        let mut row = row;
        row["verdict"] = json!("answered");
        row["reason"] = json!("answered_403");
        row["status"] = json!(status);
        row["claimed"] = json!(claimed);
        row
    };
    for (row, fits) in [
        (answered(forward(), 403, None), true),
        (answered(forward(), 403, Some("dlp:secret")), true),
        (answered(forward(), 403, Some("a secret")), false),
        (answered(forward(), 429, None), false),
        (answered(tunnel(), 403, None), false),
    ] {
        assert_eq!(reasons(&row, pipelock()).is_empty(), fits, "{row}");
        assert!(!reasons(&row, builtin()).is_empty(), "{row}");
    }
    let mut row = forward();
    row["claimed"] = json!("dlp:secret");
    assert!(!reasons(&row, pipelock()).is_empty());
}

#[test]
fn refused_tunnel_is_no_failure() {
    for (row, status, fits) in [
        (tunnel(), 403, false),
        (tunnel(), 429, false),
        (tunnel(), 503, true),
        (forward(), 403, true),
    ] {
        let mut row = row;
        row["verdict"] = json!("failed");
        row["bytes_up"] = json!(0);
        row["bytes_down"] = json!(0);
        row["reason"] = json!(format!("mediator_{status}"));
        row["status"] = json!(status);
        let found = reasons(
            &row,
            MediatorDocument::Builtin {
                posture: <_>::default(),
            },
        );
        assert_eq!(found.is_empty(), fits, "{row}: {found:?}");
    }
}
