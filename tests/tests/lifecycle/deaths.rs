//! Each process of a run is killed during traffic. No network packet leaves, no process survives, and the evidence
//! shows where it ends.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egress_tests::aftermath::{
    SOON, assert_gone, assert_silent, at_work, members, own_namespaces, runs, verdict,
};
use egress_tests::{Packet, Process, Running, World, wait_until};
use nix::sys::signal::Signal;

/// A long download, consecutive requests, and children that ignore signals.
const BUSY: &str = r#"
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy
until curl -sf -o /dev/null http://allowed.test/; do :; done
curl -s --limit-rate 20M -o /dev/null http://allowed.test/bytes/100000000000 &
( while :; do curl -s -o /dev/null http://allowed.test/; curl -s -o /dev/null http://denied.test/; done ) &
setsid bash -c 'trap "" TERM INT HUP; while :; do sleep 1; done' &
touch ready
wait
"#;

/// Consecutive requests. The exit status of each curl is written to a file.
const STEADY: &str = r"
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy
until curl -sf -o /dev/null http://allowed.test/; do :; done
touch ready
while [ ! -e stop ]; do curl -s -m 1 -o /dev/null http://allowed.test/; echo $? >> statuses; done
";

/// Returns whether the packet is no longer than a TCP packet that only closes a connection or acknowledges data. A
/// packet that opens a connection or carries data is longer.
fn is_bare(packet: &Packet) -> bool {
    let address = match packet.destination {
        Some(IpAddr::V6(_)) => 40,
        _ => 20,
    };
    packet.length <= 14 + address + 32
}

/// A run whose command has not ended.
struct Scene {
    running: Running,
    packet: PathBuf,
    workdir: PathBuf,
    key: PathBuf,
    /// Directory and cgroup of the run.
    dir: PathBuf,
    cgroup: PathBuf,
    processes: Vec<Process>,
    namespaces: BTreeMap<String, File>,
}

fn start(world: &World, agent: &str, options: &[&str]) -> Scene {
    let key = world.dir().join("key");
    if !key.exists() {
        world.key("key");
    }
    let mut run = world
        .egress()
        .allow(&["allowed.test"])
        .signed_with(&key)
        .limit(Duration::from_mins(2));
    for option in options {
        run = run.arg(option);
    }
    let before = runs(world);
    let (running, packet, workdir) = run.script(agent).start();
    let dir = at_work(world, &before, &workdir);
    let (cgroup, mut processes) = members(&dir);
    assert!(
        processes.len() >= 4,
        "init, relay, mediator and agent: {processes:?}"
    );
    processes.push(running.process());
    let namespaces = own_namespaces(&running);
    assert_eq!(namespaces.len(), 6, "{namespaces:?}");
    Scene {
        running,
        packet,
        workdir,
        key,
        dir,
        cgroup,
        processes,
        namespaces,
    }
}

/// Claims: supervise-parts*, ends-with-any-part*, no-fallback
#[test]
fn killed_process_ends_the_run() {
    // Only a running mediator can close the evidence. The status shows whether the end of the evidence is proven.
    for (stage, reason, status) in [
        ("__relay", "the relay is gone (ended by SIGKILL)", 0),
        ("__mediator", "the mediator is gone (ended by SIGKILL)", 3),
        (
            "__init",
            "the boundary's init is gone (ended by SIGKILL)",
            0,
        ),
    ] {
        let world = World::builder().own_state().build();
        let scene = start(&world, BUSY, &[]);
        scene.running.helper(stage).signal(Signal::SIGKILL);
        let output = scene.running.finish(SOON);
        assert_gone(&world, &scene.processes, &scene.namespaces, &scene.dir);
        assert_silent(&world);
        assert_eq!(output.status, Some(125), "{stage}: {output}");
        assert!(output.stderr.contains(reason), "{stage}: {output}");
        let verdict = verdict(&scene.packet, &scene.key);
        assert_eq!(verdict.status, Some(status), "{stage}: {verdict}");
        let boundary = fs::read_to_string(scene.packet.join("boundary.json")).unwrap();
        assert!(boundary.contains(reason), "{stage}: {boundary}");
        assert_eq!(runs(&world), [] as [PathBuf; 0], "{stage}");
        assert!(!scene.cgroup.exists(), "{stage}");
    }
}

/// Claims: dead-runs, evidence-in-run
#[test]
fn killed_supervisor_leaves_evidence_that_the_next_one_keeps() {
    // Each of the two commands cleans up after the run and reports the evidence.
    for cleaner in ["doctor --repair", "run --workdir next -- true"] {
        let world = World::builder().own_state().build();
        let scene = start(&world, BUSY, &[]);
        scene.running.signal(Signal::SIGKILL);
        let output = scene.running.finish(SOON);
        assert_eq!(output.signal, Some(9), "{output}");
        assert_gone(&world, &scene.processes, &scene.namespaces, &scene.dir);
        assert_silent(&world);
        assert!(!scene.packet.join("packet.json").exists());

        let events = fs::read_to_string(scene.cgroup.join("cgroup.events")).unwrap();
        assert!(events.contains("populated 0"), "{events}");
        // The mediator may close its session before the kernel kills it.
        let evidence = scene.dir.join("evidence");
        let status = Some(if is_closed(&evidence) { 0 } else { 3 });
        let left = verdict(&evidence, &scene.key);
        assert_eq!(left.status, status, "{left}");
        let doctor = world.tool(["doctor"]);
        assert_eq!(doctor.status, Some(1), "{doctor}");
        let id = scene.dir.file_name().unwrap().to_str().unwrap();
        let told = format!("left     /run/egress/{id}; ");
        assert!(doctor.stdout.contains(&told), "{doctor}");

        fs::create_dir(world.dir().join("next")).unwrap();
        let cleaned = world.tool(cleaner.split(' '));
        assert_eq!(cleaned.status, Some(0), "{cleaner}: {cleaned}");
        let told = format!("egress verify /run/egress/kept/{id}/evidence");
        let said = format!("{}{}", cleaned.stdout, cleaned.stderr);
        assert_eq!(said.matches(&told).count(), 1, "{cleaner}: {cleaned}");
        let kept = world.state().join("kept").join(id);
        let prefix = verdict(&kept.join("evidence"), &scene.key);
        assert_eq!(prefix.status, status, "{prefix}");
        assert!(fs::metadata(kept.join("flows.jsonl")).unwrap().len() > 0);
        assert_eq!(runs(&world), [] as [PathBuf; 0], "{cleaner}");
        assert!(!scene.cgroup.exists(), "{cleaner}");
        let doctor = world.tool(["doctor"]);
        assert_eq!(doctor.status, Some(0), "{doctor}");
    }
}

/// Returns whether the evidence ends with the entries that a mediator writes last.
#[expect(
    clippy::unwrap_used,
    reason = "a test whose evidence cannot be read has failed"
)]
fn is_closed(evidence: &Path) -> bool {
    let files = fs::read_dir(evidence).unwrap();
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let lines = fs::read_to_string(files.last().unwrap()).unwrap();
    let mut last = lines.lines().rev();
    [r#""type":"checkpoint""#, r#""type":"transcript_root""#]
        .iter()
        .all(|kind| last.next().is_some_and(|line| line.contains(kind)))
}

/// Claims: foreign-leftovers
#[test]
fn cgroup_without_its_run_is_removed_by_its_owner_alone() {
    let world = World::builder().own_state().build();
    let other = World::builder().own_state().build();
    let scene = start(&world, STEADY, &[]);
    scene.running.signal(Signal::SIGKILL);
    scene.running.finish(SOON);
    assert_gone(&world, &scene.processes, &scene.namespaces, &scene.dir);
    fs::remove_dir_all(&scene.dir).unwrap();
    let stranger = other.tool(["doctor", "--repair"]);
    assert_eq!(stranger.status, Some(0), "{stranger}");
    let doctor = world.tool(["doctor"]);
    assert_eq!(doctor.status, Some(1), "{doctor}");
    let told = format!("left     {}; ", scene.cgroup.display());
    assert!(doctor.stdout.contains(&told), "{doctor}");
    let doctor = world.tool(["doctor", "--repair"]);
    assert_eq!(doctor.status, Some(0), "{doctor}");
    assert!(!scene.cgroup.exists());
}

/// Claims: killed-at-the-end*
#[test]
fn stopped_process_lets_no_packet_out() {
    for (stage, reason) in [
        (
            "__relay",
            "cannot end the relay: it did not end within 5 seconds and was killed",
        ),
        (
            "__mediator",
            "cannot end the mediator: it did not end within 5 seconds and was killed",
        ),
    ] {
        let world = World::builder().own_state().build();
        let scene = start(&world, STEADY, &[]);
        let helper = scene.running.helper(stage);
        helper.signal(Signal::SIGSTOP);
        wait_until("it is stopped", SOON, || helper.state() == Some('T'));
        // 28 is curl's exit status for a timeout. The connection hangs because the process that serves it is stopped.
        let hangs = || {
            let statuses = fs::read_to_string(scene.workdir.join("statuses"));
            statuses.unwrap_or_default().trim_end().ends_with("28")
        };
        wait_until("a connection hangs", SOON, hangs);
        let silent = world.wire().snapshot();
        fs::write(scene.workdir.join("stop"), "").unwrap();
        let output = scene.running.finish(Duration::from_mins(1));
        // The kernel closes the connections that the killed process had open.
        let mut left = world.wire().since(silent);
        left.retain(|packet| !is_bare(packet));
        assert_eq!(left, [], "{stage}: {output}");
        // The command succeeded, but the run failed because a process had to be killed.
        assert_eq!(output.status, Some(125), "{stage}: {output}");
        assert!(output.stderr.contains(reason), "{stage}: {output}");
        assert!(!output.timed_out, "{stage}: {output}");
        assert_gone(&world, &scene.processes, &scene.namespaces, &scene.dir);
        assert!(
            scene.packet.join("packet.json").exists(),
            "{stage}: {output}"
        );
        assert_eq!(runs(&world), [] as [PathBuf; 0], "{stage}");
    }
}

#[test]
fn full_disk_ends_the_run_and_is_named() {
    let world = World::builder().small_state("384k").build();
    let key = world.key("key");
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .signed_with(&key)
        .script("while :; do curl -s -o /dev/null http://allowed.test/; done")
        .limit(Duration::from_mins(2))
        .run();
    assert_eq!(run.status, Some(125), "{run}");
    assert!(run.stderr.contains("No space left on device"), "{run}");
    // The evidence contains everything that was written before the disk was full. The receipts and the flow log share
    // the disk, so if the flow log failed first, the mediator could still close its session.
    let verdict = verdict(&run.packet, &key);
    if verdict.status == Some(0) {
        assert!(run.stderr.contains("flow log"), "{run}");
    } else {
        assert_eq!(verdict.status, Some(3), "{verdict}");
    }
}

/// Claims: packet-replaced
#[test]
fn packet_that_cannot_be_written_leaves_the_evidence() {
    let world = World::builder().own_state().build();
    let key = world.key("key");
    let place = world.dir().join("full");
    fs::create_dir(&place).unwrap();
    let mounted = world.shell(&format!(
        "mount -t tmpfs -o size=4k none {}",
        place.display()
    ));
    assert!(mounted.success(), "{mounted}");
    let run = world
        .egress()
        .allow(&[])
        .signed_with(&key)
        .packet_dir(&place.join("packet"))
        .script("true")
        .run();
    assert_eq!(run.status, Some(125), "{run}");
    assert!(run.stderr.contains("No space left on device"), "{run}");
    assert!(
        run.stderr
            .contains("the evidence is kept in /run/egress/kept/"),
        "{run}"
    );
    let kept = fs::read_dir(world.state().join("kept"))
        .unwrap()
        .next()
        .unwrap();
    let whole = verdict(&kept.unwrap().path().join("evidence"), &key);
    assert_eq!(whole.status, Some(0), "{whole}");
}

/// Claims: lock-of-a-run
#[test]
fn live_run_is_not_touched_by_other_commands() {
    let world = World::builder().own_state().build();
    let scene = start(&world, STEADY, &[]);
    let doctor = world.tool(["doctor", "--repair"]);
    assert_eq!(doctor.status, Some(0), "{doctor}");
    let second = world.egress().allow(&["allowed.test"]);
    let second = second.script("curl -sSf http://allowed.test/").run();
    assert_eq!(second.status, Some(0), "{second}");
    // The other run continues as before.
    let statuses = || fs::read_to_string(scene.workdir.join("statuses")).unwrap_or_default();
    let so_far = statuses().len();
    wait_until("the first run continues", SOON, || {
        statuses().len() > so_far + 10
    });
    assert!(
        statuses().lines().all(|status| status == "0"),
        "{}",
        statuses()
    );
    scene.running.signal(Signal::SIGTERM);
    let output = scene.running.finish(SOON);
    assert_eq!(output.status, Some(128 + 15), "{output}");
    let verdict = verdict(&scene.packet, &scene.key);
    assert_eq!(verdict.status, Some(0), "{verdict}");
}

/// Claims: foreign-leftovers*
#[test]
fn objects_of_no_run_here_are_not_touched() {
    let world = World::builder().own_state().build();
    // One directory has the name of a run but no lock. The other directories have names of another form.
    let foreign = ["0123456789abcdef", "notes", ".0123"].map(|name| world.state().join(name));
    for dir in &foreign {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("thesis.txt"), "years of work").unwrap();
    }
    let run = world.egress().allow(&[]).script("true").run();
    assert_eq!(run.status, Some(0), "{run}");
    let doctor = world.tool(["doctor", "--repair"]);
    assert_eq!(doctor.status, Some(1), "{doctor}");
    for dir in &foreign {
        assert!(dir.join("thesis.txt").exists(), "{}", dir.display());
    }
}
