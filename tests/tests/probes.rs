//! What every run tries before it starts anything, and what becomes of a run that finds a hole.
#![forbid(unsafe_code)]

use egress_tests::World;

#[test]
fn risk_of_a_probe_that_does_not_exist_cannot_be_accepted() {
    let world = World::new();
    let run = world
        .egress()
        .allow(&[])
        .arg("--accept-risk")
        .arg("docker_sockets")
        .script("touch started")
        .run();
    assert_eq!(run.status, Some(64), "{run}");
    assert!(run.stderr.contains("no such probe"), "{run}");
    assert!(run.stderr.contains("raw_socket_ipv4, "), "{run}");
    assert!(!run.workdir.join("started").exists(), "{run}");
    assert!(!run.packet.exists(), "{run}");
}
