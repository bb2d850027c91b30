//! Tests that consistent records agree, and that each way in which one recorder can contradict the others is reported.
mod builtin;
mod denials;
mod ends;
mod hidden;
mod pipelock;

use egress_policy::AllowList;
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence_visiting};
use pipelock_receipts::form::EntryForms;
use pipelock_receipts::json::{MAX_DEPTH, parse};
use serde_json::{Value, json};

use super::receipt::Receipt;
use super::*;
use crate::format::boundary::Denied;

const BUILTIN: Circumstances = Circumstances {
    writer: Writer::Builtin,
    intercepts: false,
    redacts: false,
    has_witness: true,
    is_closed: true,
    written: None,
    forms: EntryForms {
        other_summary: 0,
        unlike_recorder: 0,
    },
    preparation: 0,
};
const PIPELOCK: Circumstances = Circumstances {
    writer: Writer::Pipelock,
    redacts: true,
    ..BUILTIN
};
const OLD_PIPELOCK: Circumstances = Circumstances {
    writer: Writer::OldPipelock,
    ..PIPELOCK
};

/// Returns a policy that allows only these hosts.
fn strict(hosts: &[&str]) -> Allowed {
    let mut list = AllowList::default();
    for host in hosts {
        list.insert(host).unwrap();
    }
    Allowed::strict(list)
}

/// The id of a disagreement, and an edit of the records that causes it.
type Lie = (&'static str, fn(&mut Run));

#[derive(Clone)]
struct Run {
    receipts: Vec<Value>,
    rows: Vec<Value>,
    allowed: Allowed,
}

impl Run {
    /// Makes a run of ten minutes without a request.
    fn new() -> Self {
        Self {
            receipts: Vec::new(),
            allowed: Allowed::default(),
            rows: vec![beat(0)],
        }
    }

    fn receipt(&mut self, id: u64, phase: &str, members: &Value) {
        let mut receipt = json!({
            "action_id": id.to_string(), "decision_phase": phase, "verdict": "allow", "timestamp": time(5),
        });
        merge(&mut receipt, members);
        self.receipts.push(receipt);
    }

    /// Adds the intent and the outcome of one allowed action.
    fn action(&mut self, id: u64, transport: &str, method: &str, target: &str, pattern: &str) {
        let facts = json!({"transport": transport, "method": method, "target": target});
        self.receipt(id, "intent", &facts);
        self.receipt(id, "outcome", &facts);
        let outcome = self.receipts.last_mut().unwrap();
        merge(outcome, &json!({"layer": "outcome", "pattern": pattern}));
    }

    fn denial(&mut self, id: u64, transport: &str, method: &str, target: &str) {
        self.receipt(
            id,
            "",
            &json!({
                "verdict": "block", "transport": transport, "method": method, "target": target, "layer": "allowlist",
            }),
        );
    }

    /// Adds a request of the relay, with the kernel's rows of its connection.
    fn request(&mut self, id: u64, transport: &str, target: &str, verdict: &str, members: &Value) {
        let url = target.split(' ').next_back().unwrap();
        let host = url
            .split("://")
            .last()
            .unwrap()
            .split([':', '/'])
            .next()
            .unwrap();
        let mut row = json!({
            "source": "relay", "ts": time(5), "cookie": id, "connect_ns": 1, "transport": transport, "host": host,
            "port": 80, "target": target, "verdict": verdict, "bytes_up": 0, "bytes_down": 0, "duration_us": 1000,
        });
        merge(&mut row, members);
        let sent = row["bytes_up"].as_u64().unwrap().saturating_add(300);
        let received = row["bytes_down"].as_u64().unwrap().saturating_add(500);
        self.rows.push(json!({
            "source": "kernel", "verdict": "redirected", "cookie": id, "connect_ns": 1, "count": 1,
        }));
        self.rows.push(row);
        self.rows.push(json!({
            "source": "kernel_close", "cookie": id, "connect_ns": 1, "bytes_sent": sent, "bytes_acked": sent,
            "bytes_received": received,
        }));
    }

    fn signed(&self) -> Receipts {
        let mut receipts = Receipts::default();
        for receipt in &self.receipts {
            let text = |name: &str| receipt[name].as_str().unwrap_or_default();
            receipts.add(&Receipt {
                transport: text("transport"),
                target: text("target"),
                verdict: text("verdict"),
                id: text("action_id"),
                layer: text("layer"),
                phase: text("decision_phase"),
                method: text("method"),
                pattern: text("pattern"),
                time: text("timestamp"),
                action_type: text("action_type"),
                side_effects: text("side_effect_class"),
                reversibility: text("reversibility"),
                policy_hash: text("policy_hash"),
                principal: text("principal"),
                is_delegated: !receipt["delegation_chain"].is_null(),
            });
        }
        receipts
    }

    fn opened(&mut self, port: u16, bytes: u64) {
        self.rows.push(json!({
            "source": "kernel_mediator", "protocol": "tcp", "port": port, "established": true, "closed": true,
            "bytes_sent": bytes, "bytes_acked": bytes, "bytes_received": bytes,
        }));
    }

    /// Makes a run of the built-in mediator with a request of each kind.
    fn honest() -> Self {
        let mut run = Self::new();
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
        run.action(
            2,
            "connect",
            "CONNECT",
            "https://b.test:443/",
            "status=200 bytes=90000 reason=complete",
        );
        run.request(
            2,
            "connect",
            "CONNECT b.test:443",
            "forwarded",
            &json!({"bytes_up": 40_000, "bytes_down": 50_000}),
        );
        run.opened(443, 45_000);
        run.denial(3, "forward", "GET", "http://denied.test/");
        run.request(
            3,
            "forward",
            "GET http://denied.test/",
            "blocked",
            &json!({"status": 403}),
        );
        run.action(
            4,
            "websocket",
            "WS",
            "ws://a.test/ws",
            "status=101 bytes=20 reason=complete",
        );
        run.request(
            4,
            "websocket",
            "GET ws://a.test/ws",
            "forwarded",
            &json!({"status": 101, "bytes_up": 10}),
        );
        run.opened(80, 400);
        run.action(
            5,
            "forward",
            "POST",
            "http://a.test/slow",
            "status=0 bytes=2000000 reason=shutdown",
        );
        run.request(
            5,
            "forward",
            "POST http://a.test/slow",
            "unfinished",
            &json!({"bytes_up": 2_000_000}),
        );
        run.opened(80, 2_000_000);
        run
    }

    fn compare(&self, around: Circumstances) -> Reconciliation {
        let receipts = self.signed();
        let mut reconciler = Reconciler::default();
        for row in self.rows.iter().chain([&beat(10)]) {
            let text = row.to_string();
            let node = parse(&text, MAX_DEPTH).unwrap();
            reconciler.see(&Row::read(&node));
        }
        reconciler.finish(&receipts, around, &self.allowed)
    }

    fn row(&mut self, source: &str, id: u64) -> &mut Value {
        let is = |row: &&mut Value| row["source"] == source && row["cookie"] == id;
        self.rows.iter_mut().find(is).unwrap()
    }

    fn rewrite(&mut self, id: u64, members: &Value) {
        let id = id.to_string();
        for receipt in &mut self.receipts {
            if receipt["action_id"].as_str() == Some(&id) {
                merge(receipt, members);
            }
        }
    }

    fn drop_action(&mut self, id: u64) {
        let id = id.to_string();
        self.receipts
            .retain(|receipt| receipt["action_id"].as_str() != Some(&id));
    }
}

fn beat(minute: u64) -> Value {
    json!({"source": "supervisor", "event": "heartbeat", "ts": time(minute)})
}

fn time(minute: u64) -> String {
    format!("2026-11-29T10:{minute:02}:00Z")
}

fn merge(into: &mut Value, members: &Value) {
    for (name, value) in members.as_object().unwrap() {
        into[name] = value.clone();
    }
}

fn named(run: &Run, around: Circumstances) -> Vec<&'static str> {
    run.compare(around)
        .disagreements
        .keys()
        .map(|what| what.id())
        .collect()
}

#[test]
fn an_honest_run_has_nothing_to_say() {
    let both = Run::honest().compare(BUILTIN);
    assert_eq!(both.losses(), Vec::<String>::new());
    assert_eq!((both.asked, both.receipted), (5, 5));
    assert!(both.without_receipt.is_empty());
}

#[test]
fn hosts_beyond_the_policy_are_named() {
    let mut run = Run::honest();
    run.allowed = strict(&["a.test", "b.test"]);
    assert_eq!(named(&run, BUILTIN), Vec::<&str>::new());
    run.allowed = strict(&["a.test"]);
    assert_eq!(named(&run, BUILTIN), ["not_in_policy"]);
}

/// Claims: compare-requests*
#[test]
fn what_one_side_alone_has_is_a_loss() {
    let mut run = Run::honest();
    run.drop_action(1);
    assert_eq!(run.compare(BUILTIN).unsigned, 1);

    let mut run = Run::honest();
    run.action(
        8,
        "forward",
        "GET",
        "http://never.test/",
        "status=200 bytes=1 reason=complete",
    );
    assert_eq!(run.compare(BUILTIN).unasked, 1);

    let mut run = Run::honest();
    run.drop_action(3);
    run.drop_action(5);
    let both = run.compare(BUILTIN);
    assert_eq!((both.unsigned, both.unasked), (0, 0));
    assert_eq!(both.without_receipt.values().sum::<u64>(), 2);
    // A request that was cut may have no receipt. A denied request always has a receipt.
    assert_eq!(both.disagreements[&Disagreement::DenialUnsigned], 1);
}

/// Claims: kernel-bounds*, compare-requests
#[test]
fn the_kernel_and_the_relay_are_compared_by_connection() {
    let cases: [Lie; 7] = [
        ("relay_more_than_kernel", |run| {
            run.row("kernel_close", 5)["bytes_sent"] = json!(1000);
        }),
        ("relay_more_than_kernel", |run| {
            run.row("relay", 1)["bytes_down"] = json!(30_000_000);
        }),
        ("relay_less_than_kernel", |run| {
            run.row("kernel_close", 5)["bytes_acked"] = json!(30_000_000);
            run.row("kernel_close", 5)["bytes_sent"] = json!(30_000_000);
        }),
        ("no_close", |run| {
            run.rows
                .retain(|row| row["source"] != "kernel_close" || row["cookie"] != 5);
        }),
        ("no_kernel_row", |run| {
            run.rows
                .retain(|row| row["source"] != "kernel" || row["cookie"] != 5);
        }),
        ("no_kernel_row", |run| {
            run.row("relay", 1)["cookie"] = json!(0);
        }),
        ("unknown_row", |run| {
            run.rows.push(json!({"source": "hearsay"}));
        }),
    ];
    for (expected, lie) in cases {
        let mut run = Run::honest();
        lie(&mut run);
        let found = named(&run, BUILTIN);
        assert!(found.contains(&expected), "{expected} is not in {found:?}");
    }
    // A body in chunks of one byte takes six times as many bytes on the wire.
    let mut run = Run::honest();
    run.row("kernel_close", 5)["bytes_acked"] = json!(12_000_000 + (16 << 20));
    run.row("kernel_close", 5)["bytes_sent"] = json!(12_000_000 + (16 << 20));
    assert_eq!(named(&run, BUILTIN), Vec::<&str>::new());
    // A redirected TLS connection receives the bytes of its tunnel, and an alert if the tunnel did not end normally.
    for (verdict, received, fits) in [
        ("forwarded", 50_001, true),
        ("forwarded", 50_002, false),
        ("unfinished", 50_008, true),
        ("unfinished", 50_009, false),
    ] {
        let mut run = Run::honest();
        let row = run.row("relay", 2);
        row["verdict"] = json!(verdict);
        row["protocol"] = json!("tls");
        row["orig_dst"] = json!("198.18.0.7:443");
        run.row("kernel_close", 2)["bytes_received"] = json!(received);
        let found = named(&run, BUILTIN);
        let is_named = found.contains(&"relay_less_than_kernel");
        assert_eq!(!is_named, fits, "{verdict} {received}: {found:?}");
    }
    let mut run = Run::honest();
    run.rows
        .retain(|row| row["source"] != "relay" || row["cookie"] != 5);
    run.drop_action(5);
    assert_eq!(run.compare(BUILTIN).unseen, 1);
}

#[test]
fn connections_that_are_only_counted_are_compared_by_number() {
    let mut run = Run::honest();
    for id in [1, 5] {
        run.rows
            .retain(|row| row["cookie"] != id || row["source"] == "relay");
    }
    let total = |bytes: u64| {
        json!({
            "source": "kernel_close_total", "count": 2, "bytes_sent": bytes, "bytes_acked": bytes, "bytes_received": 1,
        })
    };
    run.rows
        .push(json!({"source": "kernel_repeats", "verdict": "redirected", "count": 3}));
    run.rows.push(total(2_000_600));
    assert_eq!(run.compare(BUILTIN).losses(), Vec::<String>::new());
    *run.rows.last_mut().unwrap() = total(100);
    assert_eq!(named(&run, BUILTIN), ["relay_more_than_kernel"]);
    *run.rows.last_mut().unwrap() = total(90_000_000);
    assert_eq!(named(&run, BUILTIN), ["relay_less_than_kernel"]);
    run.rows.pop();
    assert_eq!(named(&run, BUILTIN), ["no_close"]);
}

#[test]
fn twins_say_the_same() {
    type Said = (&'static [&'static str], i64, bool);
    let apart = |rest: &[Said], is_closed: bool| {
        let mut twins = twins::Twins::default();
        for (members, time, is_twin) in rest {
            twins.add(members, Some(*time), *is_twin);
        }
        twins.apart(is_closed, Tolerance::new(0))
    };
    let one: Said = (&["http://a.test/", "allow", ""], 0, false);
    let other: Said = (&["http://a.test/", "block", "list"], 0, false);
    let at = |(members, _, _): Said, time| (members, time, true);
    let of = |said| at(said, 0);
    let twin = |rest: &[Said]| apart(rest, true);
    assert_eq!(twin(&[one, other, of(other), of(one)]), 0);
    // A killed mediator may not have written the last receipt.
    assert_eq!(twin(&[one, other, of(other)]), 1);
    assert_eq!(apart(&[one, other, of(other)], false), 0);
    assert_eq!(twin(&[one, of(other)]), 1);
    assert_eq!(twin(&[one, of(one), of(one)]), 1);
    // Both versions are signed at almost the same time.
    assert_eq!(twin(&[one, at(one, 15_000)]), 0);
    assert_eq!(twin(&[one, at(one, 15_001)]), 1);
    assert_eq!(twin(&[one, at(one, -15_001)]), 1);
}

#[test]
fn an_entry_has_the_time_of_its_receipt() {
    let apart = |time: &str| {
        let entry = json!({
            "v": 2, "seq": 0, "ts": time, "session_id": "proxy", "type": "action_receipt", "prev_hash": "genesis",
            "hash": "00", "detail": {"action_record": {"timestamp": "2026-11-29T10:00:00Z"}},
        });
        let line = format!("{entry}\n");
        let file = EvidenceFile {
            name: "evidence.jsonl",
            bytes: line.as_bytes(),
        };
        let mut receipts = Receipts::default();
        check_evidence_visiting(&[file], &Trust::default(), &mut |seen| receipts.see(seen));
        let found = Reconciler::default().finish(&receipts, OLD_PIPELOCK, &Allowed::default());
        found.disagreements.get(&Disagreement::EntryTime).copied()
    };
    assert_eq!(apart("2026-11-29T10:00:15Z"), None);
    assert_eq!(apart("2026-11-29T10:00:16Z"), Some(16));
    assert_eq!(apart("2026-11-29T09:59:44Z"), Some(16));
}

#[test]
fn every_disagreement_is_documented() {
    let docs = include_str!("../../../../docs/reconciliation.md");
    for what in Disagreement::ALL {
        assert!(
            docs.contains(&format!("| `{}` |", what.id())),
            "{}",
            what.id()
        );
    }
}

#[test]
fn each_signed_denial_confirms_one_answer_and_those_with_words_first() {
    let answer = |host: &str, reason: &str| Denied {
        destination: host.to_owned(),
        port: 80,
        reason: reason.to_owned(),
        ..Denied::default()
    };
    let (plain, by_list) = ("answered_403", "answered_403: allowlist:not_in_allowlist");
    let mut run = Run::new();
    run.denial(1, "forward", "GET", "http://one.test/");
    run.denial(2, "forward", "GET", "http://one.test/");
    run.denial(3, "forward", "GET", "http://listed.test/");
    let receipts = run.signed();
    let allowed = strict(&["listed.test"]);
    let answers = vec![
        (answer("one.test", plain), 2),
        (answer("one.test", by_list), 1),
        (answer("listed.test", by_list), 1),
        (answer("other.test", plain), 1),
    ];
    let (denied, unclear) = confirmed(answers, &receipts, &allowed);
    assert_eq!(
        denied,
        [
            (answer("one.test", by_list), 1),
            (answer("one.test", plain), 1)
        ]
    );
    assert_eq!(
        unclear,
        [
            (answer("listed.test", by_list), 1),
            (answer("one.test", plain), 1),
            (answer("other.test", plain), 1),
        ]
    );
}
