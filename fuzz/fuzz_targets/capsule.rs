//! The posture capsule: a parsed capsule is written again as the same bytes, and after any change its signature is not
//! valid.
#![no_main]
use std::sync::LazyLock;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use egress_fuzz::changed;
use libfuzzer_sys::fuzz_target;
use pipelock_receipts::capsule::{
    Against, Capsule, Claims, Containment, MODE, Signed, check, kernel_rule_hash, sign,
};
use pipelock_receipts::keys::generate;

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| generate().expect("there are no random numbers"));
static SIGNED: LazyLock<Signed> = LazyLock::new(|| {
    let claims = Claims {
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
    };
    sign(claims, &KEY)
});

fn judge(bytes: &[u8]) {
    let against = Against {
        keys: &[KEY.verifying_key()],
        session: None,
        first_time: "2026-11-24T10:00:01Z",
        last_time: "2026-11-24T11:00:00.25Z",
        clock_set: Duration::ZERO,
    };
    let report = check(bytes, "posture-capsule.json", against);
    let Some(capsule) = report.capsule else {
        assert!(!report.is_trusted);
        return;
    };
    let text = capsule.canonical();
    assert_eq!(Capsule::parse(text.as_bytes()).as_ref(), Ok(&capsule));
    if report.is_trusted {
        assert_eq!(format!("{text}\n").into_bytes(), SIGNED.bytes);
    }
}

fuzz_target!(|data: &[u8]| {
    judge(data);
    judge(&changed(&SIGNED.bytes, data));
});
