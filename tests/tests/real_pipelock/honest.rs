//! Honest runs with the Pipelock under test have the grade that its version can have, whatever went wrong in them, and
//! every byte that reached a server is in their record.
use std::collections::BTreeMap;

use egress_tests::honest::{Round, assert_faultless, command, faults, policy, rounds};
use egress_tests::{Judged, World};

use crate::support::{has_sessions, with};

/// Why the receipts of an old Pipelock never show more.
const OLD: [&str; 2] = [
    "the receipts do not sign the posture capsule",
    "the end of the receipts is not proven",
];

#[test]
fn honest_runs_have_the_grade_of_the_version() {
    let world = World::new();
    let probe = with(&world, &policy(&[])).script("true").run();
    let (best, usual, policy) = if has_sessions(&probe) {
        ("kernel_enforced", &[][..], policy(&[]))
    } else {
        // It would redact a token in a URL after it has signed the receipt.
        let policy = format!("{}flight_recorder: {{redact: false}}\n", policy(&[]));
        ("kernel_observed", &OLD[..], policy)
    };
    let mut all = BTreeMap::new();
    for seed in 0..rounds(1) {
        let round = Round {
            seed,
            requests: 200,
            // Pipelock looks at bodies for seconds a megabyte.
            body: 4_000,
        };
        let world = World::new();
        let run = command(with(&world, &policy), &round).run();
        let [key, boundary] = ["key", "boundary"].map(|name| world.dir().join(name));
        let judged = Judged::new(&run.packet, &key, &boundary);
        let nothing = BTreeMap::new();
        all.insert(seed, faults(&world, &run, &judged, &nothing, best, usual));
    }
    assert_faultless(&all);
}
