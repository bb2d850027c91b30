//! Checks evidence of real runs from `tests/data/evidence`. Each file has an expected verdict, and the result of its
//! check changes if a line is missing, repeated, out of order, or changed.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
use std::fs;
use std::path::PathBuf;

use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence};
use pipelock_receipts::keys;
use pipelock_receipts::report::{End, EvidenceReport, EvidenceVerdict};
use serde::Deserialize;

/// One file of `tests/data/evidence`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    file: String,
    #[expect(dead_code, reason = "for people")]
    holds: String,
    key: String,
    expect: Expected,
    receipts: u64,
    lines: usize,
    #[serde(skip)]
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expected {
    Proven,
    Unproven,
    Invalid,
}

impl Case {
    /// Checks these lines with the signer's key pinned.
    fn check(&self, lines: &[Vec<u8>]) -> EvidenceReport {
        let keys = vec![keys::parse_public(&self.key).unwrap()];
        check(&lines.concat(), &Trust { keys })
    }

    fn lines(&self) -> Vec<Vec<u8>> {
        let lines = self.bytes.split_inclusive(|byte| *byte == b'\n');
        lines.map(<[u8]>::to_vec).collect()
    }
}

fn check(bytes: &[u8], trust: &Trust) -> EvidenceReport {
    let name = "evidence.jsonl";
    check_evidence(&[EvidenceFile { name, bytes }], trust)
}

fn cases() -> Vec<Case> {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/evidence");
    let text = fs::read(data.join("cases.json")).unwrap();
    let mut cases: Vec<Case> = serde_json::from_slice(&text).unwrap();
    assert!(cases.len() >= 9, "{} recordings", cases.len());
    for case in &mut cases {
        case.bytes = fs::read(data.join(&case.file)).unwrap();
    }
    cases
}

/// Returns the identifiers of the broken rules.
fn rules(report: &EvidenceReport) -> Vec<&'static str> {
    report
        .findings
        .iter()
        .map(|finding| finding.rule.id)
        .collect()
}

/// Claims: crate-receipts
#[test]
fn recordings_have_their_verdict() {
    for case in cases() {
        let (file, lines) = (&case.file, case.lines());
        let report = case.check(&lines);
        let (verdict, is_proven) = match case.expect {
            Expected::Proven => (EvidenceVerdict::Valid, true),
            Expected::Unproven => (EvidenceVerdict::Valid, false),
            Expected::Invalid => (EvidenceVerdict::Invalid, false),
        };
        assert_eq!(report.verdict, verdict, "{file}: {:?}", rules(&report));
        if verdict == EvidenceVerdict::Valid {
            assert_eq!(report.end == End::Proven, is_proven, "{file}");
            assert_eq!(report.receipt_count, case.receipts, "{file}");
        }
        assert_eq!(lines.len(), case.lines, "{file}");
        // With another pinned key, the evidence is invalid. Without a pinned key, it is not valid.
        let other = keys::generate().unwrap().verifying_key();
        let report = check(&case.bytes, &Trust { keys: vec![other] });
        assert_eq!(report.verdict, EvidenceVerdict::Invalid, "{file}");
        let report = check(&case.bytes, &Trust::default());
        assert_ne!(report.verdict, EvidenceVerdict::Valid, "{file}");
    }
}

/// Claims: decisions-signed, end-proven
#[test]
fn a_line_cannot_be_removed_repeated_moved_or_changed() {
    for case in cases() {
        if case.expect == Expected::Invalid {
            continue;
        }
        let lines = case.lines();
        for at in 0..lines.len() {
            let place = format!("{} line {}", case.file, at + 1);
            let is_last = at + 1 == lines.len();

            let mut fewer = lines.clone();
            fewer.remove(at);
            let report = case.check(&fewer);
            if is_last {
                // Without its last line, the file is valid but its end is not proven.
                assert_ne!(report.end, End::Proven, "{place} removed");
            } else {
                assert_eq!(report.verdict, EvidenceVerdict::Invalid, "{place} removed");
            }

            let mut more = lines.clone();
            more.insert(at, lines[at].clone());
            let report = case.check(&more);
            assert_eq!(report.verdict, EvidenceVerdict::Invalid, "{place} repeated");

            if !is_last {
                let mut moved = lines.clone();
                moved.swap(at, at + 1);
                let report = case.check(&moved);
                assert_eq!(report.verdict, EvidenceVerdict::Invalid, "{place} moved");
            }

            // Changes one digit of the entry's hash, so that the link in the next entry does not match either.
            let mut changed = lines.clone();
            let text = String::from_utf8(lines[at].clone()).unwrap();
            let digit = text.rfind("\"hash\":\"").unwrap() + "\"hash\":\"".len();
            let byte = changed[at].get_mut(digit).unwrap();
            *byte = if *byte == b'0' { b'1' } else { b'0' };
            let report = case.check(&changed);
            assert_eq!(report.verdict, EvidenceVerdict::Invalid, "{place} changed");
        }
    }
}
