//! Posture capsules that Pipelock's receipts bind. The corpora with these receipts are not part of the repository.
//! `EGRESS_SHARED` names the directory of the corpora.
#![allow(
    clippy::allow_attributes,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]
use std::fs;
use std::path::Path;

use super::support::corpora;
use pipelock_receipts::capsule::{Against, CapsuleReport, check};
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence};
use pipelock_receipts::keys::public_from_argument;
use pipelock_receipts::report::EvidenceReport;
use serde_json::Value;

/// A recorded run whose receipts bind a capsule of a third party.
struct Run {
    capsule: Vec<u8>,
    key: ed25519_dalek::VerifyingKey,
    report: EvidenceReport,
}

impl Run {
    fn read(directory: &Path) -> Self {
        let key = |name: &str| {
            let text = fs::read_to_string(directory.join(name)).unwrap();
            public_from_argument(text.trim()).unwrap()
        };
        let name = "evidence-proxy-0.jsonl";
        let bytes = fs::read(directory.join(name)).unwrap();
        let trust = Trust {
            keys: vec![key("key.hex")],
        };
        let file = EvidenceFile {
            name,
            bytes: &bytes,
        };
        Self {
            capsule: fs::read(directory.join("posture-capsule.json")).unwrap(),
            key: key("posture-key.hex"),
            report: check_evidence(&[file], &trust),
        }
    }

    fn check(&self, capsule: &[u8]) -> CapsuleReport {
        let against = Against {
            keys: &[self.key],
            session: self.report.session.as_ref(),
            first_time: &self.report.first_time,
            last_time: &self.report.last_time,
            clock_set: std::time::Duration::ZERO,
        };
        check(capsule, "posture-capsule.json", against)
    }
}

/// Returns changed copies of the document. In each copy, one byte of another value is changed.
fn changed(value: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut add = |name: &str, with: Value| all.push((String::from(name), with));
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                for (inner, with) in changed(member) {
                    let mut copy = members.clone();
                    copy.insert(name.clone(), with);
                    add(&format!("{name}.{inner}"), Value::Object(copy));
                }
            }
        }
        Value::String(text) => {
            let mut bytes = text.clone().into_bytes();
            match bytes.last_mut() {
                Some(last) => *last ^= 1,
                None => bytes.push(b'x'),
            }
            add("", String::from_utf8(bytes).unwrap().into());
        }
        Value::Number(number) => add("", (number.as_i64().unwrap() ^ 1).into()),
        Value::Bool(flag) => add("", (!flag).into()),
        Value::Null => add("", Value::Array(Vec::new())),
        Value::Array(_) => panic!("no list in these capsules"),
    }
    all
}

#[test]
#[ignore = "needs the corpora that EGRESS_SHARED names"]
fn capsules_that_pipelock_bound_are_trusted_and_bound() {
    let corpora = corpora();
    for name in [
        "v3.1-posture-kernel-nft-owner-match",
        "v3.2-posture-kernel-ebpf-cgroup",
    ] {
        let run = Run::read(&corpora.join("pipelock-runs").join(name));
        let report = run.check(&run.capsule);
        assert_eq!(report.findings, [], "{name}");
        assert!(report.is_trusted && report.is_bound, "{name}");
    }
}

#[test]
#[ignore = "needs the corpora that EGRESS_SHARED names"]
fn one_changed_byte_of_any_value_is_found() {
    let corpora = corpora();
    let run = Run::read(&corpora.join("pipelock-runs/v3.2-posture-kernel-ebpf-cgroup"));
    let document: Value = serde_json::from_slice(&run.capsule).unwrap();
    let mut values = 0;
    for (name, with) in changed(&document) {
        let report = run.check(with.to_string().as_bytes());
        assert!(!report.is_trusted || !report.is_bound, "{name}");
        assert!(!report.findings.is_empty(), "{name}");
        values += 1;
    }
    assert!(values > 30, "{values} values");
}

#[test]
#[ignore = "needs the corpora that EGRESS_SHARED names"]
fn a_capsule_of_another_run_is_found() {
    let corpora = corpora();
    let root = corpora.join("pipelock-runs");
    let run = Run::read(&root.join("v3.2-posture-kernel-ebpf-cgroup"));
    let other = Run::read(&root.join("v3.1-posture-kernel-nft-owner-match"));
    let report = run.check(&other.capsule);
    let rules: Vec<&str> = report
        .findings
        .iter()
        .map(|finding| finding.rule.id)
        .collect();
    assert_eq!(
        rules,
        [
            "capsule.signer",
            "capsule.hash",
            "capsule.key-id",
            "capsule.nonce"
        ]
    );
}
