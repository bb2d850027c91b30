//! Tests the signature, the signed digests and sizes, and the form of the attestation.
use serde_json::Value;

use super::*;
use pipelock_receipts::keys::generate;

fn files(names: &[(&str, &str)]) -> Vec<FileDigest> {
    names
        .iter()
        .map(|(name, digest)| FileDigest {
            name: String::from(*name),
            sha256: digest.repeat(32),
            size: Some(7),
        })
        .collect()
}

fn ids(report: &AttestationReport) -> Vec<&'static str> {
    report
        .findings
        .iter()
        .map(|finding| finding.rule.id)
        .collect()
}

/// Claims: crate-packet
#[test]
fn every_difference_of_the_files_is_found() {
    let key = generate().unwrap();
    let keys = [key.verifying_key()];
    let signed = files(&[("flows.jsonl", "ab"), ("packet.json", "cd")]);
    let bytes = sign(&signed, Predicate::default(), &key).unwrap();
    let report = check(&bytes, &signed, &keys);
    assert!(
        report.holds && report.is_trusted && report.findings.is_empty(),
        "{report:?}"
    );
    let unpinned = check(&bytes, &signed, &[]);
    assert!(unpinned.holds && !unpinned.is_trusted);
    assert_eq!(unpinned.signer, report.signer);
    for (others, rule) in [
        (
            files(&[("flows.jsonl", "ab"), ("packet.json", "ce")]),
            "attestation.digest",
        ),
        (files(&[("flows.jsonl", "ab")]), "attestation.missing"),
        (
            files(&[("flows.jsonl", "ab"), ("packet.json", "cd"), ("x", "00")]),
            "attestation.extra",
        ),
    ] {
        let report = check(&bytes, &others, &keys);
        assert_eq!(ids(&report), [rule]);
        assert!(!report.holds);
    }
}

#[test]
fn sizes_are_signed_and_an_earlier_version_has_none() {
    let key = generate().unwrap();
    let keys = [key.verifying_key()];
    let file = |size| FileDigest {
        size,
        ..files(&[("flows.jsonl", "ab")]).remove(0)
    };
    let sealed = |size| sign(&[file(size)], Predicate::default(), &key).unwrap();
    let with = sealed(Some(7));
    assert_eq!(open(&with, &keys).size("flows.jsonl"), Some(7));
    assert!(check(&with, &[file(Some(7))], &keys).holds);
    let other = check(&with, &[file(Some(8))], &keys);
    assert_eq!(ids(&other), ["attestation.digest"]);
    let without = sealed(None);
    assert_eq!(open(&without, &keys).size("flows.jsonl"), None);
    assert!(check(&without, &[file(Some(7))], &keys).holds);
    // Without a valid signature, there are no statements.
    let stranger = open(&with, &[generate().unwrap().verifying_key()]);
    assert!(!stranger.names("flows.jsonl") && stranger.size("flows.jsonl").is_none());
    assert!(!stranger.is_trusted() && !open(&with, &[]).is_trusted());
    assert!(open(&with, &keys).is_trusted());
}

#[test]
fn digest_of_another_algorithm_is_refused() {
    let key = generate().unwrap();
    let keys = [key.verifying_key()];
    let signed = files(&[("packet.json", "cd")]);
    for (digest, rules) in [
        (
            serde_json::json!({"sha256": "cd".repeat(32)}),
            [].as_slice(),
        ),
        (serde_json::json!({}), &["attestation.digest"]),
        (serde_json::json!({"sha256": null}), &["attestation.form"]),
        (
            serde_json::json!({"sha256": "cd".repeat(32), "sha512": "ab"}),
            &["attestation.form"],
        ),
    ] {
        let payload = serde_json::json!({
            "_type": STATEMENT, "subject": [{"name": "packet.json", "digest": digest}],
            "predicateType": PREDICATE, "predicate": {},
        });
        let payload = payload.to_string();
        let sig = key.sign(&signed_bytes(payload.as_bytes()));
        let envelope = serde_json::json!({
            "payload": STANDARD.encode(&payload), "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": "", "sig": STANDARD.encode(sig.to_bytes())}],
        });
        let report = check(envelope.to_string().as_bytes(), &signed, &keys);
        assert_eq!(ids(&report), rules, "{digest}");
    }
}

#[test]
fn no_byte_of_the_envelope_can_be_changed() {
    let key = generate().unwrap();
    let keys = [key.verifying_key()];
    let signed = files(&[("packet.json", "cd")]);
    let bytes = sign(&signed, Predicate::default(), &key).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let report = check(&changed, &signed, &keys);
        // The key id is only a hint, and white space between members has no meaning.
        let same: bool = serde_json::from_slice::<Value>(&changed).is_ok_and(|mut value| {
            let mut original: Value = serde_json::from_slice(&bytes).unwrap();
            for value in [&mut value, &mut original] {
                if let Some(id) = value.pointer_mut("/signatures/0/keyid") {
                    *id = Value::Null;
                }
            }
            value == original
        });
        assert_eq!(report.holds, same, "byte {at}");
    }
    let other = [generate().unwrap().verifying_key()];
    assert_eq!(
        ids(&check(&bytes, &signed, &other)),
        ["attestation.signature"]
    );
}
