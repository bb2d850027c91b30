//! The check of evidence: if a recording is changed, the check accepts only receipts that are signed at the same place
//! in the original recording.
#![no_main]
use std::sync::LazyLock;

use egress_fuzz::changed;
use libfuzzer_sys::fuzz_target;
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence_visiting, check_receipt};
use pipelock_receipts::keys::parse_public;
use pipelock_receipts::report::{EvidenceReport, EvidenceVerdict};

const NAME: &str = "evidence.jsonl";
const SOUND: &[u8] = include_bytes!("../../tests/data/evidence/builtin.jsonl");
/// The public key of this recording, from `tests/data/evidence/cases.json`.
const KEY: &str = "7c7185715f1797934e5c91ff3e3893de86178dfba7aa9f8225164027409a33f8";

static TRUST: LazyLock<Trust> = LazyLock::new(|| Trust {
    keys: vec![parse_public(KEY).expect("a key")],
});
static HASHES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let (report, hashes) = check(SOUND);
    assert_eq!(report.verdict, EvidenceVerdict::Valid);
    hashes
});

/// Returns the report about the evidence, and the hashes of the accepted receipts.
fn check(bytes: &[u8]) -> (EvidenceReport, Vec<String>) {
    let mut hashes = Vec::new();
    let file = EvidenceFile { name: NAME, bytes };
    let report = check_evidence_visiting(&[file], &TRUST, &mut |seen| {
        hashes.extend(seen.hash.map(str::to_owned));
    });
    (report, hashes)
}

fuzz_target!(|data: &[u8]| {
    let (as_it_is, _) = check(data);
    let (report, hashes) = check(&changed(SOUND, data));
    for (report, hashes) in [(as_it_is, &[][..]), (report, hashes.as_slice())] {
        assert!(report.findings.len() < 10_000);
        if report.verdict == EvidenceVerdict::Valid && !hashes.is_empty() {
            assert!(
                HASHES.starts_with(hashes),
                "a receipt that was not signed is valid"
            );
        }
    }
    check_receipt(data, &TRUST);
});
