//! The system clock is set during a run. No deadline moves, no file of the host is overwritten, and the packet reports
//! the change.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use egress_tests::changes::apply;
use egress_tests::clock::stepped;
use egress_tests::{Run, World};

/// Prepares a run whose command changes a file that the host wrote before the run.
fn workspace(world: &World) -> Run<'_> {
    apply(world)
        .file("file", "host")
        .script("echo agent > file; sleep 11")
}

/// Claims: clock-set-back*
#[test]
fn step_back_overwrites_nothing_and_is_reported() {
    let world = World::new();
    // The control: the command's change is applied to a file that the host wrote only before the run.
    let output = workspace(&world).run();
    assert_eq!(output.status, Some(0), "{output}");
    assert!(!output.stderr.contains("system clock"), "{output}");
    let text = |directory: &Path| fs::read_to_string(directory.join("file")).unwrap();
    assert_eq!(text(&output.workdir), "agent\n");

    // The clock was set back by an hour, so the host may have written the file during the run. The change is therefore
    // not applied.
    let world = World::new();
    let output = stepped(&world, workspace(&world), 2, -3600).run();
    assert_eq!(output.status, Some(0), "{output}");
    assert_eq!(text(&output.workdir), "host");
    for told in [
        "not applied  file (a host process",
        "the system clock was set",
    ] {
        assert!(output.stderr.contains(told), "{told}: {output}");
    }
    let read = |name: &str| fs::read_to_string(output.packet.join(name)).unwrap();
    assert!(
        read("summary.md").contains("back by 3600.000 s"),
        "{output}"
    );
    let verified = read("verifier.txt");
    assert!(
        verified.contains("the clock was set back: heartbeat"),
        "{verified}"
    );
    assert!(verified.contains("kernel_observed"), "{verified}");
}

#[test]
fn deadlines_do_not_move_with_the_clock() {
    for step in [-86_400, 86_400] {
        let world = World::new();
        let began = Instant::now();
        let run = world.egress().arg("--timeout").arg("4").script("sleep 100");
        let output = stepped(&world, run, 2, step).run();
        assert_eq!(output.status, Some(124), "{output}");
        let took = began.elapsed();
        let in_time = Duration::from_secs(4)..Duration::from_secs(20);
        assert!(in_time.contains(&took), "{step}: {took:?}");
        assert!(
            output.stderr.contains("the system clock was set"),
            "{output}"
        );
    }
}
