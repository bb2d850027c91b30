//! The grade of a packet with Pipelock's receipts. The flow log and the receipts agree, and the grade is the best one
//! for this version of Pipelock.
use std::ffi::OsStr;

use egress_tests::evidence::{public_key_hex, verify};
use egress_tests::{INTERNET, RunOutput, World};
use serde_json::Value;

use crate::support::{NO_PROXY, allow, assert_verified, facts, has_sessions, receipts, with};

/// Runs `egress verify --json` with both keys pinned, and returns the exit status and the output.
fn judged(world: &World, run: &RunOutput) -> (Option<i32>, Value) {
    let key = public_key_hex(&world.dir().join("key"));
    let boundary = public_key_hex(&world.dir().join("boundary"));
    let args = ["--json", "--key", &key, "--boundary-key", &boundary].map(OsStr::new);
    let output = verify(&[&[run.packet.as_os_str()], &args[..]].concat());
    let judged = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output}"));
    (output.status, judged)
}

fn number(judged: &Value, pointer: &str) -> u64 {
    let found = judged.pointer(pointer).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no {pointer}: {judged}"))
}

/// Fails unless every request has a receipt and every receipt has a request.
#[track_caller]
fn assert_reconciled(judged: &Value, asked: u64) {
    for (name, wanted) in [
        ("asked", asked),
        ("receipted", asked),
        ("unsigned", 0),
        ("unasked", 0),
        ("unseen", 0),
    ] {
        let pointer = format!("/boundary/reconciliation/{name}");
        assert_eq!(number(judged, &pointer), wanted, "{name}: {judged:#}");
    }
    let without = judged.pointer("/boundary/reconciliation/without_receipt");
    assert_eq!(without, Some(&serde_json::json!({})), "{judged:#}");
}

/// Fails unless the grade is the best one for this version, and its reasons explain why it is not higher.
#[track_caller]
fn assert_graded(run: &RunOutput, status: Option<i32>, judged: &Value) {
    let grade = judged.pointer("/boundary/grade").unwrap();
    let reasons = judged.pointer("/boundary/not_higher").unwrap();
    if has_sessions(run) {
        assert_eq!(status, Some(0), "{judged:#}");
        assert_eq!(grade, "kernel_enforced", "{judged:#}");
        assert_eq!(reasons, &Value::Array(Vec::new()));
        return;
    }
    assert_eq!(status, Some(3), "{judged:#}");
    assert_eq!(grade, "kernel_observed", "{judged:#}");
    let reasons: Vec<&str> = reasons
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let [capsule, end] = reasons[..] else {
        panic!("{reasons:?}")
    };
    assert_eq!(capsule, "the receipts do not sign the posture capsule");
    assert!(
        end.starts_with("the end of the receipts is not proven"),
        "{end}"
    );
}

#[test]
fn both_recorders_agree_and_the_grade_is_what_the_version_can_sign() {
    let world = World::new();
    let agent = format!(
        "{NO_PROXY}\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' http://allowed.test/\n\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' http://allowed.test/ http://allowed.test/ -o /dev/null\n\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' https://allowed.test/\n\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' http://denied.test/\n\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' https://denied.test/ || true\n"
    );
    let run = with(&world, &allow(&["allowed.test"])).script(&agent).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(run.stdout, "200\n200\n200\n200\n403\n000\n", "{run}");
    let (status, judged) = judged(&world, &run);
    assert_reconciled(&judged, 6);
    assert_graded(&run, status, &judged);
    assert_eq!(number(&judged, "/actions"), 6, "{judged:#}");
    assert_eq!(number(&judged, "/blocked_actions"), 2, "{judged:#}");
    // The output also counts receipts that are not about a new action: session records and outcomes.
    let others = number(&judged, "/session_records") + number(&judged, "/outcomes");
    assert_eq!(number(&judged, "/receipt_count"), 6 + others);
    if has_sessions(&run) {
        assert_eq!(number(&judged, "/intents"), number(&judged, "/outcomes"));
        assert_eq!(number(&judged, "/outcomes"), 4, "{judged:#}");
        assert_eq!(number(&judged, "/evidence_receipts"), 10, "{judged:#}");
        assert_eq!(facts(&run).get("posture").unwrap(), "bound");
    } else {
        assert_eq!(others, 0, "{judged:#}");
        assert_eq!(facts(&run).get("posture").unwrap(), "not_known");
    }
    assert_verified(&world, &run);
}

#[test]
fn denials_by_the_relay_are_no_loss_and_all_tunnels_of_a_host_reconcile() {
    let world = World::new();
    // Neither port 25 nor the gateway's address is allowed. The command also opens 20 tunnels at the same time.
    let agent = format!(
        "{NO_PROXY}\
         curl -sSf -m 5 http://allowed.test:25/ >/dev/null 2>&1 && echo reached\n\
         curl -sS -m 5 http://{denied}/ >/dev/null 2>&1\n\
         for i in $(seq 20); do curl -sS -o /dev/null https://allowed.test/ & done; wait\n\
         echo done\n",
        denied = INTERNET.denied
    );
    let run = with(&world, &allow(&["allowed.test"])).script(&agent).run();
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (Some(0), "done\n"),
        "{run}"
    );
    let (status, judged) = judged(&world, &run);
    // The mediator denied the request to the address. The request to the port never reached the mediator.
    assert_reconciled(&judged, 21);
    assert_graded(&run, status, &judged);
    let refused = judged.pointer("/boundary/reconciliation/refused_unasked");
    assert_eq!(
        refused.and_then(|refused| refused.get("port_not_allowed")),
        Some(&Value::from(1)),
        "{judged:#}"
    );
    assert_eq!(number(&judged, "/actions"), 21);
    assert!(receipts(&run).len() >= 21);
}
