//! Time stamps over an attestation: valid tokens from OpenSSL, and every kind of invalid token.
#![allow(
    clippy::allow_attributes,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

use std::fs;
use std::time::{Duration, Instant};

use egress_test_support::mutate::Numbers;
use egress_test_support::time_stamps::{Authority, ROOT, TIME_STAMPING, granted, tlv, token};
use egress_timestamp::{self as timestamp, MOST_BYTES, Problem, Roots, Stamp};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

const ATTESTATION: &[u8] = b"{\"payload\":\"\"}\n";
const NONCE: &[u8] = &[0x7b, 2, 3, 4, 5, 6, 7, 8];
const CADES: [&str; 3] = ["-cades", "-md", "sha256"];

/// Creates an authority in a temporary directory. Returns the authority and the directory.
fn authority() -> (Authority, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Authority::new(dir.path()), dir)
}

fn roots(authority: &Authority, name: &str) -> Roots {
    Roots::from_pem(&fs::read(authority.pem(name)).unwrap()).unwrap()
}

fn check(reply: &[u8], roots: &Roots) -> Result<Stamp, Problem> {
    timestamp::check(reply, ATTESTATION, Some(NONCE), Some(roots))
}

fn rule(outcome: &Result<Stamp, Problem>) -> &'static str {
    outcome
        .as_ref()
        .map_or_else(|problem| problem.rule.id, |_| "holds")
}

/// Returns a time in the form in which tokens contain it.
fn written(time: OffsetDateTime) -> String {
    let text = time::macros::format_description!("[year][month][day][hour][minute][second]Z");
    time.format(text).unwrap()
}

fn token_at(time: OffsetDateTime) -> Vec<u8> {
    token(&Sha256::digest(ATTESTATION), &written(time), NONCE)
}

/// Claims: attestation
#[test]
fn tokens_of_every_algorithm_hold_for_their_attestation_alone() {
    let (authority, dir) = authority();
    let query = timestamp::request(ATTESTATION, NONCE).unwrap();
    let data = dir.path().join("attestation.json");
    fs::write(&data, ATTESTATION).unwrap();
    authority.certificate("other", "P-256", ROOT, None);
    for kind in ["P-256", "P-384", "RSA"] {
        authority.certificate(kind, kind, TIME_STAMPING, Some("root"));
        for (digest, settings) in [
            ("sha256", "ess_cert_id_alg=sha1\nordering=yes"),
            (
                "sha384",
                "ess_cert_id_alg=sha256\nclock_precision_digits=3\ntsa_name=yes",
            ),
            ("sha512", "ess_cert_id_alg=sha512\ness_cert_id_chain=yes"),
        ] {
            let reply = authority.answer(&query, kind, digest, settings);
            let file = dir.path().join("timestamp.tsr");
            fs::write(&file, &reply).unwrap();
            assert!(
                authority.openssl_accepts(&data, &file, "root"),
                "{kind} {digest}"
            );
            let stamp = check(&reply, &roots(&authority, "root")).unwrap();
            assert!(
                stamp.is_trusted && stamp.authority.contains(kind),
                "{stamp:?}"
            );
            let age = OffsetDateTime::now_utc() - stamp.time;
            assert!(age.abs() < time::Duration::minutes(1), "{stamp:?}");
            assert_eq!(
                digest == "sha384",
                stamp.time.nanosecond() != 0,
                "{stamp:?}"
            );

            let own = check(&reply, &roots(&authority, kind));
            assert_eq!(rule(&own), "holds", "the signer's own certificate");
            let unpinned = timestamp::check(&reply, ATTESTATION, None, None);
            assert!(!unpinned.unwrap().is_trusted);
            let wrong = check(&reply, &roots(&authority, "other"));
            assert_eq!(rule(&wrong), "timestamp.chain");
            let root = roots(&authority, "root");
            let other = timestamp::check(&reply, b"{}", Some(NONCE), Some(&root));
            assert_eq!(rule(&other), "timestamp.imprint");
            let other = timestamp::check(&reply, ATTESTATION, Some(&[1; 8]), Some(&root));
            assert_eq!(rule(&other), "timestamp.nonce");
        }
    }
}

#[test]
fn a_changed_reply_states_the_same_or_nothing() {
    let (authority, _dir) = authority();
    let root = roots(&authority, "root");
    let token = token_at(OffsetDateTime::now_utc());
    let reply = authority.sign(&token, "signer", &CADES);
    let stamp = check(&reply, &root).unwrap();
    let digest = Sha256::digest(ATTESTATION);
    let at = reply
        .windows(32)
        .position(|part| part == digest.as_slice())
        .unwrap();
    let mut refused = 0;
    for place in 0..reply.len() {
        for bit in 0..8 {
            let mut changed = reply.clone();
            changed[place] ^= 1 << bit;
            match check(&changed, &root) {
                Err(_) => refused += 1,
                // Bytes that the signature does not cover may differ: the version of the structure, and repeated names
                // of algorithms.
                Ok(other) => {
                    assert_eq!(other, stamp, "byte {place}");
                    assert!(!(at..at + 32).contains(&place), "byte {place}");
                }
            }
        }
    }
    assert!(
        refused > reply.len() * 8 - 120,
        "{refused} of {}",
        reply.len() * 8
    );
    for cut in 0..reply.len() {
        assert!(check(&reply[..cut], &root).is_err(), "cut at {cut}");
    }
    assert!(check(&[&reply[..], &[0]].concat(), &root).is_err());
}

#[test]
fn a_signer_must_be_one_for_time_stamps() {
    let (authority, _dir) = authority();
    let root = roots(&authority, "root");
    let token = token_at(OffsetDateTime::now_utc());
    let signed = |name: &str| check(&authority.sign(&token, name, &CADES), &root);
    assert_eq!(rule(&signed("signer")), "holds");
    for (name, extensions) in [
        ("none", "keyUsage=critical,digitalSignature"),
        ("lax", "extendedKeyUsage=timeStamping"),
        ("server", "extendedKeyUsage=critical,serverAuth"),
        ("both", "extendedKeyUsage=critical,timeStamping,serverAuth"),
        (
            "ciphers",
            "keyUsage=critical,keyEncipherment\nextendedKeyUsage=critical,timeStamping",
        ),
    ] {
        authority.certificate(name, "P-256", extensions, Some("root"));
        assert_eq!(rule(&signed(name)), "timestamp.signer", "{name}");
        // A token is also rejected if the pinned root is the signer's own certificate.
        let own = check(
            &authority.sign(&token, name, &CADES),
            &roots(&authority, name),
        );
        assert_eq!(rule(&own), "timestamp.signer", "{name}");
    }
    // Without the attribute that names the certificate, another certificate with the same key could replace it.
    let without = authority.sign(&token, "signer", &CADES[1..]);
    assert_eq!(rule(&check(&without, &root)), "timestamp.signer");
    // A signature directly over the content has no attributes.
    let bare = authority.sign(&token, "signer", &["-noattr", "-md", "sha256"]);
    assert_eq!(rule(&check(&bare, &root)), "timestamp.form");
    // The token identifies the signer by its key and does not contain the certificate, so the roots must contain it.
    let by_key = authority.sign(&token, "signer", &["-cades", "-md", "sha256", "-keyid"]);
    assert_eq!(rule(&check(&by_key, &root)), "holds");
    let bare = authority.sign(&token, "signer", &["-cades", "-md", "sha256", "-nocerts"]);
    assert_eq!(rule(&check(&bare, &root)), "timestamp.signer");
    assert_eq!(rule(&check(&bare, &roots(&authority, "signer"))), "holds");
}

#[test]
fn a_certificate_must_have_been_valid_at_the_time_of_the_stamp() {
    let (authority, _dir) = authority();
    let now = OffsetDateTime::now_utc();
    let days = |days| now + time::Duration::days(days);
    for (time, expected) in [
        (now, "holds"),
        (days(9), "holds"),
        (days(11), "timestamp.chain"),
        (days(-1), "timestamp.chain"),
    ] {
        let reply = authority.sign(&token_at(time), "signer", &CADES);
        for name in ["root", "signer"] {
            assert_eq!(
                rule(&check(&reply, &roots(&authority, name))),
                expected,
                "{time} {name}"
            );
        }
    }
    // The root must also have been valid at that time.
    authority.certificate_for("1", "short", "P-256", ROOT, None);
    authority.certificate("long", "P-256", TIME_STAMPING, Some("short"));
    let now = OffsetDateTime::now_utc();
    let later = now + time::Duration::days(2);
    for (time, expected) in [(now, "holds"), (later, "timestamp.chain")] {
        let reply = authority.sign(&token_at(time), "long", &CADES);
        assert_eq!(rule(&check(&reply, &roots(&authority, "short"))), expected);
        assert_eq!(rule(&check(&reply, &roots(&authority, "long"))), "holds");
    }
}

#[test]
fn intermediate_authorities_are_followed_and_a_pinned_signer_certifies_no_other() {
    let (authority, _dir) = authority();
    authority.certificate("between", "RSA", ROOT, Some("root"));
    authority.certificate("below", "P-384", TIME_STAMPING, Some("between"));
    authority.certificate("stray", "P-256", TIME_STAMPING, Some("signer"));
    let token = token_at(OffsetDateTime::now_utc());
    let between = authority.pem("between");
    let with = [
        "-cades",
        "-md",
        "sha384",
        "-certfile",
        between.to_str().unwrap(),
    ];
    let root = roots(&authority, "root");
    assert_eq!(
        rule(&check(&authority.sign(&token, "below", &with), &root)),
        "holds"
    );
    let without = authority.sign(&token, "below", &with[..3]);
    assert_eq!(rule(&check(&without, &root)), "timestamp.chain");
    assert_eq!(
        rule(&check(&without, &roots(&authority, "between"))),
        "holds"
    );
    let stray = authority.sign(&token, "stray", &CADES);
    assert_eq!(rule(&check(&stray, &roots(&authority, "stray"))), "holds");
    assert_eq!(
        rule(&check(&stray, &roots(&authority, "signer"))),
        "timestamp.chain"
    );
}

#[test]
fn refusals_and_other_contents_have_names() {
    let (authority, _dir) = authority();
    let root = roots(&authority, "root");
    let text = tlv(0x30, &[&tlv(12, &[b"no such policy"])]);
    let refused = tlv(0x30, &[&tlv(0x30, &[&[2, 1, 2], &text, &[3, 2, 0, 1]])]);
    let outcome = check(&refused, &root);
    assert_eq!(rule(&outcome), "timestamp.status");
    assert!(outcome.unwrap_err().found.contains("no such policy"));
    assert_eq!(rule(&check(&granted(&[]), &root)), "timestamp.form");
    for time in [
        "20261129170000",
        "20261399000000Z",
        "20261129170000.Z",
        "20261129170000+0100",
    ] {
        let token = token(&Sha256::digest(ATTESTATION), time, NONCE);
        let reply = authority.sign(&token, "signer", &CADES);
        assert_eq!(rule(&check(&reply, &root)), "timestamp.form", "{time}");
    }
    for text in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        assert!(Roots::from_pem(text.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn times_of_packet_and_stamp_are_close() {
    let time = time::macros::datetime!(2026-11-29 17:00 UTC);
    let stamp = Stamp {
        time,
        authority: String::new(),
        is_trusted: true,
    };
    for (completed, made, fits) in [
        ("2026-11-29T16:59:00Z", "2026-11-29T16:59:30Z", true),
        ("2026-11-29T17:09:59Z", "2026-11-29T17:09:59Z", true),
        ("2026-11-29T17:10:01Z", "2026-11-29T17:10:02Z", false),
        ("2026-11-29T16:50:00Z", "2026-11-29T16:50:01Z", true),
        ("2026-11-29T16:49:00Z", "2026-11-29T16:49:59Z", false),
        ("yesterday", "2026-11-29T17:00:00Z", false),
    ] {
        let outcome = timestamp::check_times(&stamp, completed, made);
        assert_eq!(outcome.is_ok(), fits, "{completed} {made}");
    }
}

#[test]
fn hostile_replies_are_rejected_quickly_and_end_nothing() {
    let (authority, _dir) = authority();
    let root = roots(&authority, "root");
    let query = timestamp::request(ATTESTATION, NONCE).unwrap();
    let reply = authority.answer(&query, "signer", "sha256", "");
    let stamp = check(&reply, &root).unwrap();
    let words: [&[u8]; 8] = [
        &[0x30, 0x80],
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x31, 0],
        &[0xa0, 0x82, 0xff, 0xff],
        &[2, 1, 0x80],
        &[6, 1, 0x80],
        &[5, 0],
        &[0x24, 0x80, 0, 0],
    ];
    let mut numbers = Numbers::new(11);
    for _ in 0..20_000 {
        if let Ok(other) = check(&numbers.mutated(&[&reply], &words), &root) {
            assert_eq!(other, stamp);
        }
    }
    // The reply contains one set that fills the size limit of a reply. The elements of the set are in the order that
    // takes the most time to check.
    let most = usize::try_from(MOST_BYTES).unwrap() - 1000;
    let elements: Vec<u8> = (0..most / 5)
        .rev()
        .flat_map(|number| tlv(2, &[&u32::try_from(number).unwrap().to_be_bytes()[1..]]))
        .collect();
    let started = Instant::now();
    for place in 0..2 {
        let set = tlv(0x31, &[&elements]);
        let empty = tlv(0x31, &[]);
        let [digests, signers] = if place == 0 {
            [&set, &empty]
        } else {
            [&empty, &set]
        };
        let content = tlv(0x30, &[&[6, 3, 0x2a, 3, 4], &tlv(0xa0, &[&tlv(4, &[])])]);
        let signed = tlv(0x30, &[&[2, 1, 3], digests, &content, signers]);
        let oid: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
        let reply = granted(&tlv(0x30, &[oid, &tlv(0xa0, &[&signed])]));
        assert!(reply.len() > most && check(&reply, &root).is_err());
    }
    // There are many certificates, or one certificate with many names. All certificates and names are parsed before any
    // signature is checked.
    let many = |count: usize, one: fn([u8; 2]) -> Vec<u8>| -> Vec<u8> {
        let all = (0..count).rev();
        all.flat_map(|number| one(u16::try_from(number).unwrap().to_be_bytes()))
            .collect()
    };
    let content = token_at(OffsetDateTime::now_utc());
    let sha256 = tlv(0x30, &[&[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1]]);
    let info: &[u8] = &[6, 11, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 1, 4];
    let attribute = |end: &[u8], value: &[u8]| {
        let start: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9];
        tlv(0x30, &[&tlv(6, &[start, end]), &tlv(0x31, &[value])])
    };
    let names = many(3000, |number| tlv(0x30, &[&tlv(4, &[&number])]));
    let attributes = [
        attribute(&[3], info),
        attribute(&[4], &tlv(4, &[&Sha256::digest(&content)])),
        attribute(&[16, 2, 47], &tlv(0x30, &[&tlv(0x30, &[&names])])),
    ];
    let rsa = tlv(
        0x30,
        &[&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]],
    );
    let signer = tlv(
        0x30,
        &[
            &[2, 1, 3, 0x80, 1, 0],
            &sha256,
            &tlv(0xa0, &[&attributes.concat()]),
            &rsa,
            &tlv(4, &[]),
        ],
    );
    let certificates = many(8000, |number| tlv(0x30, &[&number]));
    let signed = tlv(
        0x30,
        &[
            &[2, 1, 3],
            &tlv(0x31, &[&sha256]),
            &tlv(0x30, &[info, &tlv(0xa0, &[&tlv(4, &[&content])])]),
            &tlv(0xa0, &[&certificates]),
            &tlv(0x31, &[&signer]),
        ],
    );
    let oid: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
    let reply = granted(&tlv(0x30, &[oid, &tlv(0xa0, &[&signed])]));
    assert!(reply.len() <= most + 1000, "{}", reply.len());
    let problem = check(&reply, &root).unwrap_err();
    assert_eq!(problem.found, "no such certificate in the token");
    assert!(check(&vec![0x30; most * 2], &root).is_err());
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}
