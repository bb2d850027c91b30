//! However an upload ends, each of the three recorders states at least as many bytes as the origin received. This holds
//! whether Pipelock scans bodies or forwards them immediately.
use egress_tests::World;
use egress_tests::carried::{NAMES, Origin, Received, Upload};

use crate::support::{allow, grade, has_sessions, reasons, with};

const MIB: u64 = 1 << 20;

/// A policy with which Pipelock forwards bodies and frames immediately.
const UNSCANNED: &str =
    "request_body_scanning: {enabled: false}\nwebsocket_proxy: {scan_text_frames: false}\n";
/// Size of an upload that is scanned. Pipelock needs seconds to scan a megabyte of text.
const SCANNED: u64 = 8 << 10;
/// An upload whose body is too long to be scanned. Pipelock denies such an upload.
const TOO_LONG: Upload = Upload {
    way: "plain",
    fate: "late",
    size: 6 * MIB,
};

/// Ways in which Pipelock forwards requests.
const REQUESTS: [&str; 4] = ["plain", "chunked", "kept", "proxy"];
const TUNNELS: [&str; 2] = ["tunnel", "explicit-tunnel"];

/// Makes these uploads. Fails if a recorder states fewer bytes than the origin received, or if the grade is not the
/// best one for this version of Pipelock.
#[track_caller]
fn received(policy: &str, plain_http: &str, uploads: &[Upload]) -> Received {
    let world = World::new();
    let origin = Origin::start(&world);
    let run = with(&world, &format!("{}{policy}", allow(&[NAMES])));
    let run = run.arg("--plain-http").arg(plain_http);
    let run = origin.command(run, uploads).run();
    assert_eq!(run.status, Some(0), "{run}");
    let received = origin.received();
    let faults = received.faults(&run);
    assert!(faults.is_empty(), "{faults:#?}\n{run}");
    assert_eq!(reasons(&run), "[]", "{run}");
    let best = if has_sessions(&run) {
        "kernel_enforced"
    } else {
        "kernel_observed"
    };
    assert_eq!(grade(&world, &run.packet), best, "{run}");
    received
}

/// Returns one upload for each combination of an end and one of these ways to send it.
fn uploads(ways: &[&'static str], size: u64) -> Vec<Upload> {
    let bad = if ways == TUNNELS { &[] } else { ways };
    Upload::each("late", size, ways)
        .chain(Upload::each("early", 4 * size, ways))
        .chain(Upload::each("forged", size, ways))
        .chain(Upload::each("bad", size, bad))
        .collect()
}

#[test]
fn bodies_that_pass_as_they_come_are_recorded() {
    let ways = [&REQUESTS[..], &["websocket"]].concat();
    let mut uploads = uploads(&ways, 2 * MIB);
    uploads.extend(Upload::each("early", 200 * MIB, &["proxy"]));
    let received = received(UNSCANNED, "scan", &uploads);
    for upload in &uploads {
        let least = match (upload.fate, upload.way) {
            // Frames are only sent after the origin has accepted the upgrade. If the answer ends before the upload, the
            // upload ends too, possibly before the first byte.
            ("forged", "websocket") | ("early", _) => 0,
            _ => MIB,
        };
        assert!(received.of(upload) >= least, "{upload:?}: {received:#?}");
    }
    assert!(received.of_fate("early") > 0, "{received:#?}");
}

#[test]
fn bodies_that_are_scanned_are_recorded() {
    let ways = [&REQUESTS[..], &["websocket"]].concat();
    let uploads = uploads(&ways, SCANNED);
    let scanned = received("", "scan", &uploads);
    for upload in &uploads {
        let least = match (upload.fate, upload.way) {
            ("forged", "websocket") | ("early", _) => 0,
            // If Pipelock cannot read a body to its end, it does not send any byte of the body.
            ("bad", way) if way != "websocket" => 0,
            _ => upload.size,
        };
        assert!(scanned.of(upload) >= least, "{upload:?}: {scanned:#?}");
    }

    // Every version of Pipelock signs a receipt for an upload that is answered.
    let other = Upload {
        way: "proxy",
        fate: "forged",
        size: SCANNED,
    };
    let both = [TOO_LONG, other];
    assert_eq!(
        received(UNSCANNED, "scan", &both).of(&TOO_LONG),
        TOO_LONG.size
    );
    assert_eq!(received("", "scan", &both).of(&TOO_LONG), 0);
}

#[test]
fn bodies_in_tunnels_are_recorded() {
    for (plain_http, ways) in [("scan", &TUNNELS[..]), ("tunnel", &REQUESTS[..])] {
        let uploads = uploads(ways, 2 * MIB);
        let received = received("", plain_http, &uploads);
        for upload in &uploads {
            let least = if upload.fate == "early" { 0 } else { MIB };
            assert!(received.of(upload) >= least, "{upload:?}: {received:#?}");
        }
        assert!(received.of_fate("early") > 0, "{received:#?}");
    }
}
