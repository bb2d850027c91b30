//! Tests capsules that are signed, bound by a session, or changed.
use super::*;
use crate::keys;

fn claims() -> Claims {
    Claims {
        generated_at: String::from("2026-11-24T10:00:00.5Z"),
        expires_at: String::from("2026-11-24T12:00:00Z"),
        config_hash: "ab".repeat(32),
        containment: Containment {
            mode: String::from(MODE),
            boundary_verified: true,
            probe_refused_direct_egress: true,
            kernel_rule_hash: kernel_rule_hash(&[], "cd"),
            target_uid: String::from("64999"),
        },
        launch: None,
    }
}

fn facts(posture: &Posture) -> SessionFacts {
    let posture = posture.clone();
    SessionFacts {
        posture_capsule_sha256: posture.capsule_sha256,
        posture_signer_key_id: posture.signer_key_id,
        containment_nonce: posture.containment_nonce,
        contained_uid: posture.contained_uid,
        ..SessionFacts::default()
    }
}

fn judged(bytes: &[u8], key: &SigningKey, session: &SessionFacts) -> CapsuleReport {
    let against = Against {
        keys: &[key.verifying_key()],
        session: Some(session),
        first_time: "2026-11-24T10:00:01Z",
        last_time: "2026-11-24T11:00:00.25Z",
        clock_set: Duration::ZERO,
    };
    check(bytes, "posture-capsule.json", against)
}

fn ids(report: &CapsuleReport) -> Vec<&'static str> {
    report
        .findings
        .iter()
        .map(|finding| finding.rule.id)
        .collect()
}

#[test]
fn a_signed_capsule_is_trusted_and_bound() {
    let key = keys::generate().unwrap();
    let signed = sign(claims(), &key);
    let session = facts(&signed.posture);
    let report = judged(&signed.bytes, &key, &session);
    assert_eq!(ids(&report), Vec::<&str>::new());
    assert!(report.is_trusted && report.is_bound);
    let other = keys::generate().unwrap();
    let report = judged(&signed.bytes, &other, &session);
    assert_eq!(ids(&report), ["capsule.signer"]);
    assert!(!report.is_trusted);
    let report = judged(&signed.bytes, &key, &SessionFacts::default());
    assert_eq!(ids(&report), ["capsule.unbound"]);
    assert!(report.is_trusted && !report.is_bound);
}

#[test]
fn changed_capsule_has_no_signature() {
    let key = keys::generate().unwrap();
    let signed = sign(claims(), &key);
    let text = String::from_utf8(signed.bytes).unwrap();
    let expiry = "\"expires_at\":\"2026-11-24T12";
    assert!(text.contains(expiry), "{text}");
    let changed = text.replacen(expiry, "\"expires_at\":\"2026-11-24T13", 1);
    let report = judged(changed.as_bytes(), &key, &facts(&signed.posture));
    assert!(
        ids(&report).contains(&"capsule.signature"),
        "{:?}",
        ids(&report)
    );
    assert!(!report.is_trusted);
}

#[test]
fn receipts_outside_the_window_are_found() {
    let key = keys::generate().unwrap();
    let signed = sign(claims(), &key);
    let session = facts(&signed.posture);
    for (first_time, last_time) in [
        ("2026-11-24T10:00:00.499Z", "2026-11-24T11:00:00Z"),
        ("2026-11-24T11:00:00Z", "2026-11-24T12:00:00.000000001Z"),
        ("2026-11-24T11:00:00Z", "later"),
    ] {
        let against = Against {
            keys: &[],
            session: Some(&session),
            first_time,
            last_time,
            clock_set: Duration::ZERO,
        };
        let report = check(&signed.bytes, "c", against);
        assert_eq!(ids(&report), ["capsule.window"], "{first_time} {last_time}");
        assert!(!report.is_trusted);
    }
    let mut late = claims();
    late.expires_at = String::from("2026-11-24T09:00:00.0Z");
    let signed = sign(late, &key);
    let found = ids(&judged(&signed.bytes, &key, &facts(&signed.posture)));
    assert!(
        found.contains(&"capsule.window") && found.contains(&"capsule.form"),
        "{found:?}"
    );
}

#[test]
fn each_bound_value_is_compared() {
    let key = keys::generate().unwrap();
    let signed = sign(claims(), &key);
    let good = facts(&signed.posture);
    let change = |text: &str| text.replacen(char::is_alphanumeric, "~", 1);
    for (rule, session) in [
        (
            "capsule.hash",
            SessionFacts {
                posture_capsule_sha256: change(&good.posture_capsule_sha256),
                ..good.clone()
            },
        ),
        (
            "capsule.key-id",
            SessionFacts {
                posture_signer_key_id: change(&good.posture_signer_key_id),
                ..good.clone()
            },
        ),
        (
            "capsule.nonce",
            SessionFacts {
                containment_nonce: change(&good.containment_nonce),
                ..good.clone()
            },
        ),
        (
            "capsule.uid",
            SessionFacts {
                contained_uid: change(&good.contained_uid),
                ..good.clone()
            },
        ),
    ] {
        let report = judged(&signed.bytes, &key, &session);
        assert_eq!(ids(&report), [rule]);
        assert!(!report.is_bound);
    }
}

#[test]
fn members_unknown_missing_or_twice_are_refused() {
    let key = keys::generate().unwrap();
    let text = String::from_utf8(sign(claims(), &key).bytes).unwrap();
    let version = "\"schema_version\":\"1\"";
    for (bad, why) in [
        (
            text.replacen('{', "{\"extra\":1,", 1),
            "unknown field `extra`",
        ),
        (
            text.replacen("\"total\":0", "\"total\":0,\"x\":1", 1),
            "unknown field `x`",
        ),
        (
            text.replacen(version, &format!("{version},{version}"), 1),
            "twice",
        ),
        (
            text.replacen("schema_version", "Schema_version", 1),
            "unknown field",
        ),
        (text.replacen("\"mode\":\"\",", "", 1), "missing field"),
        (
            text.replacen("\"total\":0", "\"total\":0.0", 1),
            "invalid type",
        ),
        (format!("{text}{{}}"), "text after the value"),
    ] {
        let error = Capsule::parse(bad.as_bytes()).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

/// Claims: rule-hash
#[test]
fn the_rule_hash_depends_on_every_input_and_on_no_order() {
    let one = KernelRule {
        name: "agent_connect4",
        attach_type: 10,
        tag: "0011223344556677",
    };
    let two = KernelRule {
        name: "agent_connect6",
        attach_type: 11,
        tag: "8899aabbccddeeff",
    };
    let hash = kernel_rule_hash(&[one.clone(), two.clone()], "cd");
    assert_eq!(hash, kernel_rule_hash(&[two.clone(), one.clone()], "cd"));
    let text = "{\"programs\":[{\"attach_type\":10,\"name\":\"agent_connect4\",\"tag\":\"0011223344556677\"},\
        {\"attach_type\":11,\"name\":\"agent_connect6\",\"tag\":\"8899aabbccddeeff\"}],\"seccomp_sha256\":\"cd\",\"version\":1}";
    assert_eq!(hash, hex::encode(Sha256::digest(text)));
    let mut seen = vec![hash];
    for (programs, seccomp) in [
        (vec![one.clone()], "cd"),
        (vec![one.clone(), two.clone()], "ce"),
        (
            vec![
                one.clone(),
                KernelRule {
                    tag: "8899aabbccddeefe",
                    ..two.clone()
                },
            ],
            "cd",
        ),
        (
            vec![
                one.clone(),
                KernelRule {
                    attach_type: 12,
                    ..two.clone()
                },
            ],
            "cd",
        ),
        (vec![one.clone(), KernelRule { name: "x", ..two }], "cd"),
        (vec![one.clone(), one], "cd"),
    ] {
        let hash = kernel_rule_hash(&programs, seccomp);
        assert!(!seen.contains(&hash));
        seen.push(hash);
    }
}
