//! A run leaves its packet and nothing else.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use egress_tests::aftermath::{SOON, until_ready};
use egress_tests::{Census, World};

/// Fails unless everything that is new since `before` disappears within ten seconds. The kernel removes cgroups and
/// namespaces some time after their last process has ended.
#[track_caller]
fn assert_nothing_left(before: &Census) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let left = Census::take().left_by(before);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: {left:#?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Claims: values-handed-on, prepare-objects*
#[test]
fn nothing_stays_behind() {
    let _turn = crate::turn();
    let world = World::new();
    let before = Census::take();

    // The control: the census shows the objects of an active run.
    let (running, _, workdir) = world
        .egress()
        .allow(&["allowed.test"])
        .script(
            "touch /tmp/x /run/y; sleep 300 & touch ready; until [ -e seen ]; do sleep 0.02; done; \
             echo done",
        )
        .start();
    until_ready(&workdir, SOON);
    let during = Census::take().left_by(&before);
    fs::write(workdir.join("seen"), "").unwrap();
    let run = running.finish(Duration::from_secs(30));
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (Some(0), "done\n"),
        "{run}"
    );
    for (kind, count) in [
        ("cgroups", during.cgroups.len()),
        ("namespaces", during.namespaces.len()),
        ("processes", during.processes.len()),
        ("run directories", during.runs.len()),
    ] {
        assert!(count > 0, "the census saw no {kind}: {during:#?}");
    }
    assert_nothing_left(&before);

    // Nothing is left behind either if the command does not exist, the time limit ends it, or the policy is rejected.
    let run = world.egress().allow(&[]).command(["/nowhere/agent"]).run();
    assert_eq!(run.status, Some(127), "{run}");
    assert_nothing_left(&before);
    let run = world.egress().allow(&[]).arg("--timeout").arg("1");
    let run = run.script("sleep 300").run();
    assert_eq!(run.status, Some(124), "{run}");
    assert_nothing_left(&before);
    let run = world.egress().config("nonsense: [").script("true").run();
    assert_eq!(run.status, Some(64), "{run}");
    assert_nothing_left(&before);
}
