//! Helper processes are killed during traffic. All connections of the run close.

use std::fs;
use std::thread;
use std::time::Duration;

use egress_tests::{Running, World, wait_until};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Time limit for anything that should happen at once, even on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// A command that requests an allowed name until a request fails, and then connects to an address directly.
const AGENT: &str = "
while curl -sSf -m 5 --noproxy '*' -o /dev/null http://allowed.test/; do touch ready; done
touch closed
while :; do
  curl -sS -m 2 --noproxy '*' http://198.51.100.20/
  echo x > /dev/udp/198.51.100.20/7000
  sleep 0.05
done";

fn is_there(process: Pid) -> bool {
    // A zombie counts as a process that has ended.
    fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Returns the descendant that runs as the stage `name` of the binary.
fn stage(running: &Running, name: &str) -> Option<Pid> {
    running.descendants().into_iter().find(|process| {
        fs::read(format!("/proc/{process}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(name))
    })
}

/// Starts a run and waits until one request of its command succeeded.
fn started(world: &World) -> Running {
    let run = world.egress().allow(&["allowed.test"]).script(AGENT);
    let (running, _, workdir) = run.start();
    wait_until("the agent is served", LONG, || {
        workdir.join("ready").exists()
    });
    running
}

/// Claims: ends-with-supervisor
#[test]
fn killed_supervisor_ends_every_process() {
    let world = World::builder().own_state().build();
    let running = started(&world);
    let all = running.descendants();
    assert!(all.len() >= 4, "only {all:?}");
    running.signal(Signal::SIGKILL);
    for process in all {
        wait_until("the run's processes end", LONG, || !is_there(process));
    }
    // The kernel may still close open connections, but no new connection leaves.
    thread::sleep(Duration::from_millis(300));
    let start = world.wire().snapshot();
    thread::sleep(Duration::from_millis(300));
    world.wire().assert_still(start);
    let output = running.finish(Duration::from_secs(10));
    assert_eq!(output.signal, Some(9), "{output}");
}

#[test]
fn killed_helper_leaves_no_way_out() {
    for helper in ["relay", "mediator"] {
        let world = World::builder().own_state().build();
        let running = started(&world);
        let process = stage(&running, helper).expect("the helper's process");
        nix::sys::signal::kill(process, Signal::SIGKILL).expect("kill the helper");
        wait_until("the helper ends", LONG, || !is_there(process));
        thread::sleep(Duration::from_millis(300));
        let start = world.wire().snapshot();
        let output = running.finish(Duration::from_secs(20));
        world.wire().assert_still(start);
        assert!(
            !output.timed_out,
            "{helper}: the command continues: {output}"
        );
        assert_ne!(output.status, Some(0), "{helper}: {output}");
    }
}
