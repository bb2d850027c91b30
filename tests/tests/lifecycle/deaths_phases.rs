//! A process of a run is killed before the command runs, or after the command has ended. The run then fails, and no
//! process of the run survives.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read the result of its run has failed"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use egress_tests::aftermath::{
    SOON, assert_gone, assert_silent, at_work, members, own_namespaces, runs, verdict,
};
use egress_tests::{HoldAtExec, Output, Process, Running, Snapshot, World, binary, wait_until};
use nix::sys::signal::Signal;

/// Creates a file in the workspace and sends a request.
const AGENT: &str = "touch ran; curl -s --noproxy '*' -o /dev/null http://allowed.test/";

/// A run that waits because one of its processes is stopped.
struct Still {
    /// The count of network packets before the run was started.
    before: Snapshot,
    running: Running,
    stopped: Process,
    packet: PathBuf,
    workdir: PathBuf,
    dir: PathBuf,
    processes: Vec<Process>,
    namespaces: BTreeMap<String, File>,
}

/// Starts a run whose process `stage` is stopped before its first instruction.
fn stopped_at_start(world: &World, stage: &'static str) -> Still {
    world.wait_for_quiet();
    let before = world.wire().snapshot();
    let hold = HoldAtExec::new(&binary(), world.dir().join("egress"));
    let run = world.egress().binary(hold.program());
    let held = hold.hold(stage, SOON);
    let (running, packet, workdir) = run.allow(&["allowed.test"]).script(AGENT).start();
    let stopped = held.join().unwrap();
    let found = runs(world);
    let dir = found.first().unwrap().clone();
    let (_, mut processes) = members(&dir);
    processes.push(running.process());
    let namespaces = own_namespaces(&running);
    Still {
        before,
        running,
        stopped,
        packet,
        workdir,
        dir,
        processes,
        namespaces,
    }
}

/// Kills `victim`, lets the stopped process continue, and returns the result of the run.
fn end(scene: Still, victim: &str) -> (Output, Vec<Process>, BTreeMap<String, File>, PathBuf) {
    let process = match victim {
        "supervisor" => scene.running.process(),
        stage => scene.running.helper(stage),
    };
    process.signal(Signal::SIGKILL);
    wait_until("it is gone", SOON, || !process.lives());
    if scene.stopped.lives() {
        scene.stopped.signal(Signal::SIGCONT);
    }
    let output = scene.running.finish(Duration::from_secs(30));
    assert!(!output.timed_out, "{victim}: {output}");
    assert!(!scene.workdir.join("ran").exists(), "{victim}: {output}");
    let written = scene.packet.join("packet.json").exists();
    assert!(!written, "{victim}: {output}");
    (output, scene.processes, scene.namespaces, scene.dir)
}

/// Claims: launch-side-by-side, launch-when-ready*
#[test]
fn relay_and_mediator_start_side_by_side_and_the_command_waits_for_both() {
    for (stopped, other) in [("__mediator", "__relay"), ("__relay", "__mediator")] {
        let world = World::builder().own_state().build();
        let scene = stopped_at_start(&world, stopped);
        // While one of the two processes is stopped, the other process starts.
        wait_until("the other process runs", SOON, || {
            scene.running.find_helper(other).is_some()
        });
        std::thread::sleep(Duration::from_millis(500));
        assert!(!scene.workdir.join("ran").exists(), "without {stopped}");
        world.wire().assert_still(scene.before);
        scene.stopped.signal(Signal::SIGCONT);
        let output = scene.running.finish(Duration::from_secs(30));
        assert_eq!(output.status, Some(0), "{stopped}: {output}");
        assert!(scene.workdir.join("ran").exists(), "{stopped}: {output}");
    }
}

/// Claims: closed-before-code
#[test]
fn death_before_the_command_runs_ends_the_run() {
    for (stopped, victim) in [
        ("__init", "supervisor"),
        ("__init", "__init"),
        ("__mediator", "supervisor"),
        ("__mediator", "__init"),
        ("__mediator", "__mediator"),
        ("__relay", "__relay"),
        ("__relay", "__mediator"),
        ("__relay", "supervisor"),
    ] {
        let what = format!("{victim} killed while {stopped} was stopped");
        let world = World::builder().own_state().build();
        // The control: if nothing is killed, the same script runs and its request leaves the runner.
        let before = world.wire().snapshot();
        let control = world.egress().allow(&["allowed.test"]).script(AGENT).run();
        assert!(control.success(), "{control}");
        assert!(control.workdir.join("ran").exists(), "{control}");
        world.wire().assert_moved(before);

        let scene = stopped_at_start(&world, stopped);
        let before = scene.before;
        let (output, processes, namespaces, dir) = end(scene, victim);
        assert_gone(&world, &processes, &namespaces, &dir);
        world.wire().assert_still(before);
        if victim == "supervisor" {
            assert_eq!(output.signal, Some(9), "{what}: {output}");
            let doctor = world.tool(["doctor", "--repair"]);
            assert_eq!(doctor.status, Some(0), "{what}: {doctor}");
        } else {
            assert_eq!(output.status, Some(125), "{what}: {output}");
            let name = victim.trim_start_matches('_');
            let named = format!("{name} failed: ");
            assert!(output.stderr.contains(&named), "{what}: {output}");
        }
        assert_eq!(runs(&world), [] as [PathBuf; 0], "{what}");
        let doctor = world.tool(["doctor"]);
        assert_eq!(doctor.status, Some(0), "{what}: {doctor}");
    }
}

/// Claims: collect-incomplete
#[test]
fn death_after_the_command_ended_is_reported() {
    // The command has ended, and the relay and the mediator are about to close their connections.
    for (stopped, victim, reason) in [
        ("__relay", "__relay", "cannot end the relay"),
        ("__mediator", "__mediator", "cannot end the mediator"),
        ("__mediator", "supervisor", ""),
    ] {
        let world = World::builder().own_state().build();
        let key = world.key("key");
        let run = world.egress().allow(&["allowed.test"]).signed_with(&key);
        let script = format!("{AGENT}; touch ready; until [ -e done ]; do sleep 0.02; done");
        let (running, packet, workdir) = run.script(&script).start();
        let dir = at_work(&world, &[], &workdir);
        let (cgroup, mut processes) = members(&dir);
        processes.push(running.process());
        let agents = Process::in_cgroup(&cgroup.join("agent"));
        let namespaces = own_namespaces(&running);
        let part = running.helper(stopped);
        part.signal(Signal::SIGSTOP);
        wait_until("it is stopped", SOON, || part.state() == Some('T'));
        std::fs::write(workdir.join("done"), "").unwrap();
        wait_until("the agent is gone", SOON, || {
            !agents.iter().any(|process| process.lives())
        });
        if victim == "supervisor" {
            running.signal(Signal::SIGKILL);
        } else {
            running.helper(victim).signal(Signal::SIGKILL);
        }
        let output = running.finish(SOON);
        assert_gone(&world, &processes, &namespaces, &dir);
        assert_silent(&world);
        if victim == "supervisor" {
            assert_eq!(output.signal, Some(9), "{output}");
            assert!(!packet.join("packet.json").exists(), "{output}");
            let doctor = world.tool(["doctor", "--repair"]);
            assert_eq!(doctor.status, Some(0), "{doctor}");
            let kept = world.state().join("kept").join(dir.file_name().unwrap());
            let prefix = verdict(&kept.join("evidence"), &key);
            assert_eq!(prefix.status, Some(3), "{prefix}");
        } else {
            assert_eq!(output.status, Some(125), "{victim}: {output}");
            assert!(output.stderr.contains(reason), "{victim}: {output}");
            assert!(packet.join("packet.json").exists(), "{victim}: {output}");
        }
        assert_eq!(runs(&world), [] as [PathBuf; 0], "{victim}");
    }
}
