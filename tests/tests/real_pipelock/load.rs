//! Many simultaneous requests and tunnels. No request and no tunnel may be missing in the evidence.
use std::fs;
use std::time::Duration;

use egress_tests::agents::{requests, tunnels};
use egress_tests::{RunOutput, World};

use crate::support::{
    allow, assert_verified, facts, has_sessions, reasons, receipts, targets, with,
};

/// Time limit of a run. Pipelock 3.x makes each receipt durable before the action, which takes time.
const LIMIT: Duration = Duration::from_mins(10);

#[test]
fn tunnels_that_close_together_all_have_their_receipts() {
    const TUNNELS: usize = 1_000;
    let world = World::new();
    let run = with(&world, &allow(&["allowed.test"]))
        .limit(LIMIT)
        .script(&tunnels(TUNNELS))
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(run.stdout, format!("{TUNNELS}\n"), "{run}");
    assert_eq!(reasons(&run), "[]", "{run}");
    assert_eq!(targets(&run, "allow").len(), TUNNELS);
    let allowed = facts(&run).get("allowed").unwrap().to_string();
    assert_eq!(allowed, format!("[{TUNNELS},{TUNNELS}]"));
    assert_twins(&run);
    assert_verified(&world, &run);
}

#[test]
fn two_thousand_requests_all_have_their_receipts() {
    const REQUESTS: usize = 2_000;
    let world = World::new();
    let run = with(&world, &allow(&["allowed.test"]))
        .limit(LIMIT)
        .script(&requests(REQUESTS))
        .run();
    assert_eq!(run.stdout, format!(" {REQUESTS} 200\n"), "{run}");
    assert_eq!(reasons(&run), "[]", "{run}");
    let mut allowed = targets(&run, "allow");
    allowed.sort_unstable();
    allowed.dedup();
    assert_eq!(allowed.len(), REQUESTS);
    assert_twins(&run);
    assert_verified(&world, &run);
    // Pipelock 3.2 may repeat a sequence number when a file reaches 8 MiB.
    let evidence = fs::read_to_string(run.packet.join("evidence.jsonl")).unwrap();
    let lines: Vec<&str> = evidence.split_inclusive('\n').collect();
    let sizes = lines
        .chunks(entries_per_file(&run))
        .map(|file| file.concat().len());
    assert!(sizes.max().unwrap() < 4 << 20, "{run}");
}

/// Returns the number of entries after which Pipelock starts a new file.
fn entries_per_file(run: &RunOutput) -> usize {
    let policy = fs::read_to_string(run.packet.join("policy.yaml")).unwrap();
    let key = "max_entries_per_file: ";
    let value = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix(key));
    value.map_or(10_000, |value| value.parse().unwrap())
}

#[test]
fn end_of_a_session_is_proven_however_many_entries_a_file_has() {
    for entries in 2..=5 {
        let world = World::new();
        let recorder = format!(
            "flight_recorder: {{max_entries_per_file: {entries}, completeness: {{heartbeat_interval: 2s}}}}\n"
        );
        let run = with(&world, &format!("{}{recorder}", allow(&["allowed.test"])));
        let run = run.script("true").run();
        // An older Pipelock has no heartbeats, so its key is rejected.
        if run.status == Some(125) && run.stderr.contains("completeness") {
            return;
        }
        assert_eq!(run.status, Some(0), "{entries}: {run}");
        assert_verified(&world, &run);
    }
}

/// Fails unless each decision with a receipt of version 1 also has one of version 2, if the evidence contains version 2
/// at all.
#[track_caller]
fn assert_twins(run: &RunOutput) {
    let entries = run.lines("evidence.jsonl");
    let twins = entries
        .iter()
        .filter(|entry| entry.get("type").unwrap() == "evidence_receipt");
    let decisions = receipts(run)
        .iter()
        .filter(|receipt| receipt.get("transport").unwrap() != "receipt_session")
        .count();
    let wanted = if has_sessions(run) { decisions } else { 0 };
    assert_eq!(twins.count(), wanted);
}

#[test]
fn rate_limit_of_pipelock_does_not_end_an_ordinary_run() {
    const REQUESTS: usize = 150;
    let world = World::new();
    let agent = requests(REQUESTS);
    let run = with(&world, &allow(&["allowed.test"])).script(&agent).run();
    assert_eq!(run.stdout, format!(" {REQUESTS} 200\n"), "{run}");
    assert_eq!(reasons(&run), "[]", "{run}");
    assert_eq!(targets(&run, "allow").len(), REQUESTS);
    // Only --verbose prints the long notice about raised limits.
    assert!(!run.stderr.contains("limits were raised"), "{run}");
    let run = with(&world, &allow(&["allowed.test"]))
        .arg("--verbose")
        .script("true");
    let run = run.run();
    assert!(run.stderr.contains("limits were raised"), "{run}");
    // A limit in the caller's policy is not replaced.
    let yaml = format!(
        "{}fetch_proxy: {{monitoring: {{max_requests_per_minute: 5}}}}\n",
        allow(&["allowed.test"])
    );
    let run = with(&world, &yaml).script(&agent).run();
    assert!(run.stdout.starts_with(" 5 200\n"), "{run}");
    let raised = facts(&run).get("raised").unwrap().to_string();
    assert!(!raised.contains("max_requests_per_minute"), "{raised}");
}
