//! Honest runs with the built-in mediator keep their grade, whatever fails in them. The record of such a run contains
//! every byte that reached a server.
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

/// Executes a round in its own world, and returns the faults in its record. `clock` is the number of seconds by which
/// the clock is shifted during the run, with the expected reasons for a lower grade.
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

/// Returns a run whose clock is shifted by `step` seconds. A preloaded library changes the supervisor's clock. The
/// mediator starts without environment variables, so the times in its receipts are changed separately.
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
fn clock_that_is_set_is_the_only_fault() {
    let mut all = BTreeMap::new();
    for (seed, step) in [(100, -3_600), (101, 3_600)] {
        let clock = (step, &["the clock was set", "no heartbeat"][..]);
        all.insert(seed, round(&Round { seed, ..ROUND }, Some(clock)));
    }
    assert_faultless(&all);
}

/// An answer that is longer than `max_response_mb` is cut, or not passed on at all. Both cases are recorded as they
/// happened.
#[test]
fn answers_over_the_limit_keep_the_grade() {
    let world = World::new();
    let [key, boundary] = ["key", "boundary"].map(|name| world.key(name));
    let script = "for url in http://allowed.test/chunked/1100000 http://allowed.test/bytes/1100000; do\n\
         \x20   code=$(curl -sS -m 50 -o page -w '%{http_code}' $url) && echo whole $code || echo broken $code\n\
         done\n";
    let control = world.shell(script);
    assert_eq!(control.stdout, "whole 200\nwhole 200\n", "{control}");
    let limited = "version: 1\nmode: strict\napi_allowlist: [allowed.test]\nfetch_proxy: {max_response_mb: 1}\n";
    let run = world.egress().config(limited).signed_with(&key);
    let run = run
        .arg("--boundary-key")
        .arg(&boundary)
        .script(script)
        .run();
    assert_eq!(run.stdout, "broken 200\nwhole 502\n", "{run}");
    let judged = Judged::new(&run.packet, &key, &boundary);
    assert_eq!(judged.grade(), "kernel_enforced", "{run}\n{judged:?}");
}
