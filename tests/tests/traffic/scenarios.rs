//! Scenarios that `real_pipelock` runs with a real Pipelock, here with the built-in mediator. docs/pipelock.md lists
//! the tests of the other scenarios.
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use egress_tests::aftermath::{SOON, until_ready};
use egress_tests::agents::{NO_PROXY, requests, tunnels, twice};
use egress_tests::evidence::{Reference, public_key_hex, verify};
use egress_tests::{INTERNET, Packet, RunOutput, World};

/// Runs this script once behind the boundary.
fn run(world: &World, names: &[&str], agent: &str) -> RunOutput {
    world
        .egress()
        .allow(names)
        .signed_with(&world.key("key"))
        .limit(Duration::from_mins(3))
        .script(agent)
        .run()
}

/// Fails unless the record is complete and all verifiers accept the packet.
#[track_caller]
fn assert_whole(world: &World, run: &RunOutput) {
    let hex = public_key_hex(&world.dir().join("key"));
    let ours = verify(&[run.packet.as_os_str(), "--key".as_ref(), hex.as_ref()]);
    assert_eq!(ours.status, Some(0), "{ours}");
    let published = Reference::Rust.chain(&run.packet.join("evidence.jsonl"), &hex);
    assert_eq!(published.status, Some(0), "{published}");
    assert_eq!(run.boundary("/incomplete").to_string(), "[]");
}

/// Claims: thousand-tunnels
#[test]
fn thousand_tunnels_that_close_together_all_have_their_receipts() {
    const TUNNELS: usize = 1_000;
    let world = World::new();
    let run = run(&world, &["allowed.test"], &tunnels(TUNNELS));
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(run.stdout, format!("{TUNNELS}\n"), "{run}");
    // Each tunnel has an intent and an outcome.
    assert_eq!(run.receipts("allow").len(), 2 * TUNNELS);
    assert_whole(&world, &run);
}

#[test]
fn two_thousand_requests_all_have_their_receipts() {
    const REQUESTS: usize = 2_000;
    let world = World::new();
    let run = run(&world, &["allowed.test"], &requests(REQUESTS));
    assert_eq!(run.stdout, format!(" {REQUESTS} 200\n"), "{run}");
    let allowed: BTreeSet<String> = run.receipts("allow").into_iter().collect();
    assert_eq!(allowed.len(), REQUESTS);
    assert_whole(&world, &run);
}

/// Claims: never-resolves
#[test]
fn name_is_called_where_it_was_judged() {
    let world = World::new();
    let to_metadata = |packet: &Packet| packet.destination == Some(INTERNET.metadata.into());
    let start = world.wire().snapshot();
    let run = run(&world, &["*.rebind.test"], &twice("one.rebind.test"));
    // The name server answers one query for each request, and the mediator uses the address in that answer.
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (Some(0), "200\n403\n"),
        "{run}"
    );
    let asked = world
        .queries()
        .iter()
        .filter(|query| query.name == "one.rebind.test" && query.kind == 1)
        .count();
    assert_eq!(asked, 2);
    assert!(!world.wire().since(start).iter().any(to_metadata), "{run}");
    assert_whole(&world, &run);
    let control = world.shell(&twice("two.rebind.test"));
    assert_eq!(control.stdout, "200\n200\n", "{control}");
    world.wire().assert_left(start, to_metadata);
}

/// Claims: policy-shown
#[test]
fn policy_that_is_rewritten_during_the_run_changes_nothing() {
    let world = World::builder().own_state().build();
    let call = "curl -sS -o /dev/null -w '%{http_code}\\n' http://denied.test/\n";
    let agent =
        format!("{NO_PROXY}{call}touch ready; until [ -e rewritten ]; do sleep 0.02; done\n{call}");
    let (running, packet, workdir) = world
        .egress()
        .allow(&["allowed.test"])
        .script(&agent)
        .start();
    until_ready(&workdir, SOON);
    // The policy that is in use is in a sealed memory file, so only the caller's own file can be rewritten.
    let path = packet.with_file_name("pipelock.yaml");
    let before = fs::read_to_string(&path).unwrap();
    let rewritten = before.replace("allowed.test", "denied.test");
    assert_ne!(rewritten, before);
    fs::write(&path, rewritten).unwrap();
    fs::write(workdir.join("rewritten"), "").unwrap();
    let output = running.finish(Duration::from_mins(1));
    assert_eq!(
        (output.status, output.stdout.as_str()),
        (Some(0), "403\n403\n"),
        "{output}"
    );
    let used = fs::read_to_string(packet.join("policy.yaml")).unwrap();
    assert!(!used.contains("denied.test"), "{used}");
    // The control: the rewritten policy would have allowed the request.
    let control = run(&world, &["denied.test"], &format!("{NO_PROXY}{call}"));
    assert_eq!(control.stdout, "200\n", "{control}");
}
