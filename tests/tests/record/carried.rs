//! However an upload ends, each of the three recorders states at least as many bytes as the origin received.
use std::fs;

use egress_tests::carried::{NAMES, Origin, Upload};
use egress_tests::honest::unrecorded;
use egress_tests::{Judged, World};
use serde_json::{Value, json};

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

/// Returns the flow log with `value` as `member` of each row with this source.
fn with_rows(log: &str, source: &str, member: &str, value: &Value) -> String {
    let mut new = String::new();
    for line in log.lines() {
        let mut row: Value = serde_json::from_str(line).unwrap_or_default();
        if row.get("source").is_some_and(|text| text == source)
            && let Some(there) = row.get_mut(member)
        {
            *there = value.clone();
        }
        new.push_str(&row.to_string());
        new.push('\n');
    }
    new
}

#[test]
fn records_that_state_less_than_the_origin_received_are_found() {
    let world = World::new();
    let origin = Origin::start(&world);
    let uploads: Vec<Upload> = Upload::each("late", 2 * MIB, &["plain"]).collect();
    let run = origin
        .command(world.egress().allow(&[NAMES]), &uploads)
        .run();
    let received = origin.received();
    let found = || {
        let honest = unrecorded(received.by_host(), &run);
        [received.faults(&run).join("\n"), honest.join("\n")]
    };
    assert_eq!(found(), ["", ""], "{run}");
    let flows = run.packet.join("flows.jsonl");
    let log = fs::read_to_string(&flows).expect("read the flow log");
    for (source, member, value, expected) in [
        (
            "relay",
            "bytes_up",
            json!(0),
            ["the relay's rows state 0", "the flow log has 0"],
        ),
        (
            "relay",
            "verdict",
            json!("blocked"),
            ["bytes received: {", ""],
        ),
        (
            "kernel_close",
            "bytes_sent",
            json!(0),
            ["the kernel's rows state 0", "the kernel saw 0 leave"],
        ),
        (
            "kernel_mediator",
            "bytes_sent",
            json!(0),
            ["the mediator send 0", ""],
        ),
    ] {
        fs::write(&flows, with_rows(&log, source, member, &value)).expect("write the flow log");
        let found = found();
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{source} {member}: {found}");
            assert_eq!(
                found.is_empty(),
                expected.is_empty(),
                "{source} {member}: {found}"
            );
        }
        fs::write(&flows, &log).expect("write the flow log");
    }
    let path = run.packet.join("boundary.json");
    let text = fs::read_to_string(&path).expect("read boundary.json");
    let mut document: Value = serde_json::from_str(&text).expect("JSON");
    let measure = document.pointer_mut("/residual_channels/allowed_hosts");
    *measure.expect("the residual measure") = json!({});
    fs::write(&path, document.to_string()).expect("write boundary.json");
    for (found, expected) in found()
        .iter()
        .zip(["the residual measure state", "the residual measure has 0"])
    {
        assert!(found.contains(expected), "{found}");
    }
}
