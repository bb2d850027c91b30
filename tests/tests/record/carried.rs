//! However an upload ends, each of the three recorders states at least as many bytes as the origin received.
use egress_tests::carried::{NAMES, Origin, Upload};
use egress_tests::{Judged, World};

const MIB: u64 = 1 << 20;

/// Ways in which the mediator forwards requests.
const REQUESTS: [&str; 4] = ["plain", "chunked", "kept", "proxy"];
const TUNNELS: [&str; 2] = ["tunnel", "explicit-tunnel"];

fn uploads() -> Vec<Upload> {
    let all = [&REQUESTS[..], &TUNNELS, &["websocket"]].concat();
    Upload::each("late", 2 * MIB, &all)
        .chain(Upload::each("early", 200 * MIB, &["plain"]))
        .chain(Upload::each("early", 32 * MIB, &all))
        .chain(Upload::each("forged", 3 * MIB, &all))
        .chain(Upload::each("bad", 2 * MIB, &REQUESTS))
        .chain(Upload::each("bad", 2 * MIB, &["websocket"]))
        .collect()
}

#[test]
fn no_origin_received_more_than_the_relay_the_residual_and_the_kernel_state() {
    let world = World::new();
    let origin = Origin::start(&world);
    let [key, boundary] = ["receipts", "boundary"].map(|name| world.key(name));
    let run = world.egress().allow(&[NAMES]).signed_with(&key);
    let run = run.arg("--boundary-key").arg(&boundary);
    let uploads = uploads();
    let run = origin.command(run, &uploads).run();
    assert_eq!(run.status, Some(0), "{run}");

    let received = origin.received();
    for upload in &uploads {
        let least = match (upload.fate, upload.way) {
            // Frames are only sent after the origin has accepted the upgrade. If the answer ends before the upload, the
            // upload ends too, possibly before the first byte.
            ("forged", "websocket") | ("early", _) => 0,
            _ => MIB,
        };
        assert!(
            received.of(upload) >= least,
            "{upload:?}: {received:#?}\n{run}"
        );
    }
    assert!(received.of_fate("early") > 0, "{received:#?}");
    let faults = received.faults(&run);
    assert!(faults.is_empty(), "{faults:#?}\n{run}");
    let judged = Judged::new(&run.packet, &key, &boundary);
    assert_eq!(judged.grade(), "kernel_enforced", "{judged}");
}
