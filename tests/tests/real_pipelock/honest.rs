//! Honest runs with the Pipelock under test have the best grade for its version, whatever fails in them. The record of
//! such a run contains every byte that reached a server.
use std::collections::BTreeMap;
use std::time::Duration;

use egress_tests::clock::stepped;
use egress_tests::honest::{
    Round, SET_AFTER, assert_faultless, command, command_then_pause, command_with_pause, faults,
    policy, rounds,
};
use egress_tests::{Judged, Run, World};

use crate::lies::lying;
use crate::support::{has_sessions, signed, with, without_policy};

/// Reasons why the receipts of an old Pipelock never permit a higher grade.
const OLD: [&str; 2] = [
    "the receipts do not sign the posture capsule",
    "the end of the receipts is not proven",
];

const ROUND: Round = Round {
    seed: 0,
    requests: 200,
    // Pipelock needs seconds to scan a megabyte.
    body: 4_000,
};

/// Returns the best grade of honest runs with the Pipelock under test, the reasons why it is not higher, and the
/// policy.
fn usual() -> (&'static str, &'static [&'static str], String) {
    let world = World::new();
    let probe = with(&world, &policy(&[])).script("true").run();
    if has_sessions(&probe) {
        ("kernel_enforced", &[], policy(&[]))
    } else {
        // An old Pipelock would redact a token in a URL after it has signed the receipt.
        let policy = format!("{}flight_recorder: {{redact: false}}\n", policy(&[]));
        ("kernel_observed", &OLD, policy)
    }
}

/// Executes the run that `run` prepares, and returns the faults in its record.
fn round(
    best: &str,
    usual: &[&str],
    run: impl for<'w> FnOnce(&'w World) -> Run<'w>,
) -> Vec<String> {
    let world = World::new();
    let run = signed(&world, run(&world)).run();
    let [key, boundary] = ["key", "boundary"].map(|name| world.dir().join(name));
    let judged = Judged::new(&run.packet, &key, &boundary);
    faults(&world, &run, &judged, &BTreeMap::new(), best, usual)
}

/// Asserts that rounds with the usual policy and `more` have the best grade of the version. `prepare` adds the command.
fn assert_honest(more: &str, prepare: impl for<'w> Fn(Run<'w>, &Round) -> Run<'w>) {
    let (best, usual, policy) = usual();
    let policy = format!("{policy}{more}");
    let mut all = BTreeMap::new();
    for seed in 0..rounds(1) {
        let faults = round(best, usual, |world| {
            let run = without_policy(world).config(&policy);
            prepare(run, &Round { seed, ..ROUND })
        });
        all.insert(seed, faults);
    }
    assert_faultless(&all);
}

#[test]
fn honest_runs_have_the_grade_of_the_version() {
    assert_honest("", command);
}

/// Each request has its own tunnel, so Pipelock judges only the host. Pipelock waits for an origin that does not close
/// until the tunnel is idle for too long.
#[test]
fn honest_runs_with_tunnels_have_the_grade_of_the_version() {
    let idle = "forward_proxy: {enabled: true, idle_timeout_seconds: 5}\n";
    assert_honest(idle, |run, round| {
        let run = run.arg("--plain-http").arg("tunnel");
        command_then_pause(run, round, Duration::from_secs(12))
    });
}

/// A preloaded library changes the supervisor's clock. Pipelock is statically linked, so the times in its receipts are
/// rewritten after it has ended.
#[test]
fn clock_that_is_set_is_the_only_fault() {
    let (_, usual, policy) = usual();
    let usual = [usual, &["the clock was set", "no heartbeat"]].concat();
    let mut all = BTreeMap::new();
    for (seed, step, lie) in [
        (100, -3_600, "clock_set_back"),
        (101, 3_600, "clock_set_ahead"),
    ] {
        let faults = round("kernel_observed", &usual, |world| {
            let run = lying(world, lie).config(&policy);
            let run = command_with_pause(run, &Round { seed, ..ROUND }, Duration::from_secs(11));
            stepped(world, run, SET_AFTER, step)
        });
        all.insert(seed, faults);
    }
    assert_faultless(&all);
}
