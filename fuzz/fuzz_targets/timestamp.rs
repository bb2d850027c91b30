//! Time stamp tokens (RFC 3161): the authority has signed every statement of an accepted reply.
#![no_main]
use std::sync::LazyLock;

use egress_timestamp::{Roots, Stamp, check, check_times};
use egress_fuzz::changed;
use libfuzzer_sys::fuzz_target;

/// A reply over `ATTESTATION`, signed by an authority that was created for this test.
const REPLY: &[u8] = include_bytes!("../seeds/timestamp/reply.tsr");
const ATTESTATION: &[u8] = b"attestation";

static ROOTS: LazyLock<Roots> = LazyLock::new(|| {
    Roots::from_pem(include_bytes!("../seeds/timestamp-root.pem")).expect("a certificate")
});
static STAMP: LazyLock<Stamp> = LazyLock::new(|| {
    let stamp = check(REPLY, ATTESTATION, None, Some(&ROOTS));
    stamp.expect("a sound reply")
});

fuzz_target!(|data: &[u8]| {
    assert!(STAMP.is_trusted);
    for reply in [data, &changed(REPLY, data)] {
        if let Ok(stamp) = check(reply, ATTESTATION, None, Some(&ROOTS)) {
            assert_eq!(stamp, *STAMP);
        }
        if let Ok(stamp) = check(reply, ATTESTATION, None, None) {
            assert!(!stamp.is_trusted);
            drop(check_times(&stamp, "2026-11-24T10:00:00Z", "later"));
        }
        assert!(check(reply, b"another", None, None).is_err());
        assert!(check(reply, ATTESTATION, Some(&[1; 8]), None).is_err());
    }
    drop(Roots::from_pem(data));
});
