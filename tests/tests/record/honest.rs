//! Honest runs with the built-in mediator keep their grade, whatever went wrong in them, and every byte that reached a
//! server is in their record.
#![expect(
    clippy::expect_used,
    reason = "a test without the binary that it is about has failed"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use egress_tests::clock::stepped;
use egress_tests::honest::{
    Round, SET_AFTER, assert_faultless, command, command_with_pause, faults, policy, rounds,
};
use egress_tests::{Judged, Run, World};

const ROUND: Round = Round {
    seed: 0,
    requests: 200,
    body: 100_000,
};

/// Makes a round in a world of its own, and gives what is wrong with its record. `clock` is by how much it is set
/// meanwhile, and what its grade then says.
fn round(round: &Round, clock: Option<(i64, &[&str])>) -> Vec<String> {
    let world = World::new();
    let [key, boundary] = ["key", "boundary"].map(|name| world.key(name));
    let received = world.received();
    let run = world.egress().signed_with(&key);
    let run = run.arg("--boundary-key").arg(&boundary);
    let (run, best, usual) = match clock {
        None => {
            let run = command(run.config(&policy(&[])), round);
            (run, "kernel_enforced", &[][..])
        }
        Some((step, told)) => {
            let run = command_with_pause(run, round, Duration::from_secs(11));
            (set(&world, run, step), "kernel_observed", told)
        }
    };
    let output = run.run();
    let judged = Judged::new(&output.packet, &key, &boundary);
    faults(&world, &output, &judged, &received, best, usual)
}

/// A run whose clock is set. The supervisor's is, by what is linked into it; the mediator starts without any variable,
/// so its receipts are given the times that they would have.
fn set<'w>(world: &'w World, run: Run<'w>, step: i64) -> Run<'w> {
    let mediator = std::env::var_os("EGRESS_LYING_MEDIATOR_BIN").map(PathBuf::from);
    let mediator = mediator.expect("EGRESS_LYING_MEDIATOR_BIN: use cargo xtask test");
    let name = match step {
        ..0 => "clock_set_back.lie.test",
        0.. => "clock_set_ahead.lie.test",
    };
    let run = run.binary(&mediator).config(&policy(&[name]));
    stepped(world, run, SET_AFTER, step)
}

#[test]
fn honest_runs_keep_their_grade() {
    let mut all = BTreeMap::new();
    for seed in 0..rounds(3) {
        all.insert(seed, round(&Round { seed, ..ROUND }, None));
    }
    assert_faultless(&all);
}

#[test]
fn clock_that_is_set_is_all_that_is_wrong() {
    let mut all = BTreeMap::new();
    for (seed, step) in [(100, -3_600), (101, 3_600)] {
        let clock = (step, &["the clock was set", "no heartbeat"][..]);
        all.insert(seed, round(&Round { seed, ..ROUND }, Some(clock)));
    }
    assert_faultless(&all);
}
