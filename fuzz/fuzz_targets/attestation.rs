//! The attestation (DSSE): after a change of the envelope, its signature is not valid for another statement.
#![no_main]
use std::sync::LazyLock;

use audit_packet::attest::{AttestationReport, Predicate, check, sign};
use audit_packet::stream::FileDigest;
use ed25519_dalek::{SigningKey, VerifyingKey};
use egress_fuzz::changed;
use libfuzzer_sys::fuzz_target;
use pipelock_receipts::keys::generate;

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| generate().expect("there are no random numbers"));
static FILES: LazyLock<Vec<FileDigest>> = LazyLock::new(|| {
    let names = ["boundary.json", "flows.jsonl", "packet.json"];
    names
        .map(|name| FileDigest::of(name, name.as_bytes()))
        .into()
});
static SIGNED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let predicate = Predicate {
        run_id: String::from("run"),
        tool: String::from("egress"),
        verdict: String::from("valid"),
        grade: String::from("kernel_enforced"),
    };
    sign(&FILES, predicate, &KEY).expect("JSON")
});

fn judge(bytes: &[u8], keys: &[VerifyingKey]) -> AttestationReport {
    let report = check(bytes, &FILES, keys);
    assert!(!report.holds || report.signer.is_some());
    assert!(!report.is_trusted || !keys.is_empty());
    report
}

fuzz_target!(|data: &[u8]| {
    let keys = [KEY.verifying_key()];
    let sound = judge(&SIGNED, &keys);
    assert!(sound.holds && sound.is_trusted);
    judge(data, &[]);
    for bytes in [data, &changed(&SIGNED, data)] {
        let report = judge(bytes, &keys);
        if report.signer.is_some() {
            assert_eq!(report.predicate, sound.predicate);
            assert!(report.holds, "the same statement about the same files");
        }
    }
});
