//! The recorder rejects input that would break its chain, and a rejected input changes nothing.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

use super::support::{config, id, time};
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence};
use pipelock_receipts::keys;
use pipelock_receipts::record::{Action, ActionType, Phase, ReceiptVerdict, Transport};
use pipelock_receipts::recorder::{Moment, Recorder, RecorderError};
use pipelock_receipts::report::{self, End};

fn action<'a>(action_id: &'a str, phase: Option<Phase>, target: &'a str) -> Action<'a> {
    Action {
        action_id,
        action_type: ActionType::Read,
        verdict: ReceiptVerdict::Allow,
        phase,
        transport: Transport::Forward,
        target,
        method: "GET",
        layer: "",
        pattern: "",
        request_id: "req-1",
    }
}

#[test]
fn refusals_change_nothing() {
    let key = keys::generate().unwrap();
    let at = time(0);
    let (first, last) = (id(0), id(2));
    let moment = |id| Moment { time: &at, id };
    let (mut recorder, mut bytes) = Recorder::open(key.clone(), config(2), moment(&first)).unwrap();
    let one = id(1);
    let long = format!("http://a.test/{}", "x".repeat(1 << 20));
    let outcome = action(&one, Some(Phase::Outcome), "http://a.test/");
    let intent = action(&one, Some(Phase::Intent), "http://a.test/");
    let no_intent = RecorderError::NoIntent {
        action_id: one.clone(),
    };
    assert_eq!(recorder.action(&outcome, &at), Err(no_intent.clone()));
    assert_eq!(
        recorder.action(&action(&one, None, ""), &at),
        Err(RecorderError::Empty { field: "target" })
    );
    assert!(matches!(
        recorder.action(&action(&one, Some(Phase::Intent), &long), &at),
        Err(RecorderError::TooLong { .. })
    ));
    assert_eq!((recorder.next_seq(), recorder.open_intents()), (1, 0));
    bytes.extend(recorder.action(&intent, &at).unwrap());
    assert_eq!(
        recorder.action(&intent, &at),
        Err(RecorderError::SecondIntent {
            action_id: one.clone()
        })
    );
    assert_eq!(recorder.open_intents(), 1);
    bytes.extend(recorder.action(&outcome, &at).unwrap());
    assert_eq!(recorder.action(&outcome, &at), Err(no_intent));
    bytes.extend(recorder.checkpoint(&at));
    bytes.extend(
        recorder
            .close("graceful_shutdown", moment(&last))
            .unwrap()
            .lines,
    );

    let trust = Trust {
        keys: vec![key.verifying_key()],
    };
    let file = EvidenceFile {
        name: "evidence.jsonl",
        bytes: &bytes,
    };
    let report = check_evidence(&[file], &trust);
    assert_eq!(report.findings, []);
    assert_eq!(
        (report.verdict, report.end),
        (report::EvidenceVerdict::Valid, End::Proven)
    );
    assert_eq!((report.receipt_count, report.checkpoints), (4, 3));
}

#[test]
fn an_open_action_is_a_warning_and_another_reason_leaves_the_end_unproven() {
    let key = keys::generate().unwrap();
    let at = time(0);
    let (first, last) = (id(0), id(2));
    let moment = |id| Moment { time: &at, id };
    let (mut recorder, mut bytes) = Recorder::open(key.clone(), config(0), moment(&first)).unwrap();
    let one = id(1);
    let intent = action(&one, Some(Phase::Intent), "http://a.test/");
    bytes.extend(recorder.action(&intent, &at).unwrap());
    bytes.extend(recorder.close("disk_full", moment(&last)).unwrap().lines);
    let trust = Trust {
        keys: vec![key.verifying_key()],
    };
    let file = EvidenceFile {
        name: "evidence.jsonl",
        bytes: &bytes,
    };
    let report = check_evidence(&[file], &trust);
    assert_eq!(report.verdict, report::EvidenceVerdict::Valid);
    assert!(matches!(report.end, End::Unproven(_)));
    let rules: Vec<&str> = report
        .findings
        .iter()
        .map(|finding| finding.rule.id)
        .collect();
    assert_eq!((rules, report.open_intents), (vec!["action.open"], 1));
}
