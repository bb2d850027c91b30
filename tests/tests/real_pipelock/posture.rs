//! The receipts of Pipelock 3.1 and later bind the posture capsule of the boundary.
use std::fs;

use egress_tests::World;
use egress_tests::evidence::{public_key_hex, sign_capsule, verify};
use sha2::{Digest as _, Sha256};

use crate::support::{NO_PROXY, allow, facts, has_sessions, receipts, reviewed, with};

const AGENT: &str = "curl -sS -o /dev/null http://allowed.test/\n";

#[test]
fn first_receipt_signs_the_capsule_of_this_run_and_no_other() {
    let world = World::new();
    let yaml = allow(&["allowed.test"]);
    let start = || {
        let run = with(&world, &yaml)
            .script(&format!("{NO_PROXY}{AGENT}"))
            .run();
        assert_eq!(
            run.stderr.contains("do not sign the boundary"),
            !has_sessions(&run)
        );
        run
    };
    let (run, other) = (start(), start());
    let path = run.packet.join("posture-capsule.json");
    if !has_sessions(&run) {
        assert_eq!(facts(&run).get("posture").unwrap(), "not_known");
        let required = reviewed(&world, &run.packet, &["--require-grade", "kernel_enforced"]);
        assert_eq!(required.status, Some(1), "{required}");
        return;
    }
    let capsule = run.json("posture-capsule.json");
    let receipts = receipts(&run);
    let open = receipts
        .first()
        .unwrap()
        .pointer("/session_control/open")
        .unwrap();
    let hash = hex::encode(Sha256::digest(capsule.to_string()));
    assert_eq!(open.get("posture_capsule_sha256").unwrap(), hash.as_str());
    assert_eq!(open.get("containment_nonce"), capsule.get("signature"));
    assert_eq!(
        open.get("posture_signer_key_id"),
        capsule.get("signer_key_id")
    );
    let uid = run
        .json("boundary.json")
        .pointer("/agent/uid")
        .unwrap()
        .to_string();
    assert_eq!(open.get("contained_uid").unwrap(), uid.as_str());

    // A change of any byte of the capsule is detected, and the capsule of another run is rejected.
    let whole = fs::read(&path).unwrap();
    let mut changed = whole.clone();
    let middle = changed.get_mut(whole.len() / 2).unwrap();
    *middle ^= 1;
    fs::write(&path, &changed).unwrap();
    let verdict = reviewed(&world, &run.packet, &[]);
    assert_eq!(verdict.status, Some(1), "{verdict}");
    assert!(verdict.stdout.contains("[capsule."), "{verdict}");
    fs::copy(other.packet.join("posture-capsule.json"), &path).unwrap();
    let verdict = reviewed(&world, &run.packet, &[]);
    assert_eq!(verdict.status, Some(1), "{verdict}");
    assert!(verdict.stdout.contains("[capsule.hash]"), "{verdict}");
    // This capsule expires before the receipts.
    let mut late = capsule;
    late["expires_at"] = late["generated_at"].clone();
    sign_capsule(&mut late, &world.dir().join("boundary"));
    fs::write(&path, late.to_string()).unwrap();
    let verdict = reviewed(&world, &run.packet, &[]);
    assert_eq!(verdict.status, Some(1), "{verdict}");
    assert!(verdict.stdout.contains("[capsule.window]"), "{verdict}");
    fs::write(&path, &whole).unwrap();
    let verdict = reviewed(&world, &run.packet, &["--require-grade", "kernel_enforced"]);
    assert_eq!(verdict.status, Some(0), "{verdict}");

    // The boundary has no grade if its key is not pinned.
    let key = public_key_hex(&world.dir().join("key"));
    let verdict = verify(&[
        run.packet.as_os_str(),
        "--key".as_ref(),
        key.as_ref(),
        "--require-grade".as_ref(),
        "kernel_enforced".as_ref(),
    ]);
    assert_eq!(verdict.status, Some(1), "{verdict}");
}
