//! Bad input, and machines that lack something. Each case gives one error with the next step and the right exit status,
//! and leaves nothing behind.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose directories cannot be read has failed"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use egress_tests::{Output, Run, World, binary};

const LOUD: &str = "echo RAN";

/// Fails unless the program ended with `status` and one error, and left no run and no packet in `places`.
#[track_caller]
fn assert_refused(world: &World, what: &str, output: &Output, status: i32, places: &[&Path]) {
    assert_eq!(output.status, Some(status), "{what}: {output}");
    let errors = output.stderr.matches("error:").count();
    assert_eq!(errors, 1, "{what}: there must be one error: {output}");
    assert!(!output.stdout.contains("RAN"), "{what}: {output}");
    for entry in fs::read_dir(world.state()).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(
            name == "lock" || name == "users",
            "{what}: {} is left",
            name.display()
        );
    }
    for place in places {
        for entry in fs::read_dir(place).into_iter().flatten() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            let is_packet = name == "packet" || name.starts_with(".packet");
            assert!(!is_packet, "{what}: {name} is left in {}", place.display());
        }
    }
}

/// Does the same as [`assert_refused`] for a run with its own packet directory.
#[track_caller]
fn refused(world: &World, what: &str, run: Run<'_>, status: i32) {
    let run = run.run();
    let place = run.packet.parent().unwrap().to_owned();
    assert_refused(world, what, &run, status, &[&place, &run.workdir]);
}

/// Claims: read-script
#[test]
fn errors_of_the_caller() {
    let world = World::builder().own_state().build();
    let outside = world.dir().join("outside.sh");
    fs::write(&outside, LOUD).unwrap();
    let broken = world.dir().join("broken.key");
    fs::write(&broken, "not a key\n").unwrap();
    let run = || world.egress().allow(&[]);
    let config = |yaml| world.egress().config(yaml).script(LOUD);
    for (what, run) in [
        ("script outside", run().arg("--script").arg(&outside)),
        ("no script", run().arg("--script").arg("nowhere.sh")),
        ("bad YAML", config("mode: strict\n  api_allowlist: [")),
        ("unknown key", config("mode: strict\nno_such_key: 1\n")),
        ("wrong mode", config("mode: audit\n")),
        ("bad key", run().signed_with(&broken).script(LOUD)),
        (
            "no key",
            run().signed_with(Path::new("/nowhere")).script(LOUD),
        ),
        ("port", run().arg("--proxy-port").arg("1023").script(LOUD)),
        ("time", run().arg("--timeout").arg("0").script(LOUD)),
        ("unknown option", run().arg("--allow-all").script(LOUD)),
    ] {
        refused(&world, what, run, 64);
    }
}

/// Claims: read-old-packet
#[test]
fn packet_directories_that_cannot_be_used() {
    let world = World::builder().own_state().build();
    let place = |name: &str| {
        let path = world.dir().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let elsewhere = place("elsewhere");
    let links = place("links");
    symlink(&elsewhere, links.join("link")).unwrap();
    let foreign = place("foreign");
    fs::write(foreign.join("thesis.txt"), "years of work").unwrap();
    let sealed = place("sealed");
    fs::create_dir(sealed.join("old")).unwrap();
    let mounted = world.shell(&format!(
        "mount --bind {0} {0} && mount -o remount,bind,ro {0}",
        sealed.display()
    ));
    assert!(mounted.success(), "{mounted}");
    for (what, path) in [
        ("link", links.join("link")),
        ("foreign file", foreign.clone()),
        ("read-only, new", sealed.join("packet")),
        ("read-only, there", sealed.join("old")),
        ("no parent", world.dir().join("no/packet")),
    ] {
        let run = world.egress().allow(&[]).packet_dir(&path);
        refused(&world, what, run.script(LOUD), 64);
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert!(foreign.join("thesis.txt").exists());
}

#[test]
fn command_that_cannot_run() {
    let world = World::builder().own_state().build();
    for (command, status) in [("/nowhere/agent", 127), ("./plain.txt", 126)] {
        let run = world.egress().allow(&[]).file("plain.txt", "no program");
        let run = run.command([command]).run();
        assert_eq!(run.status, Some(status), "{run}");
        assert_eq!(run.stderr.matches("error:").count(), 1, "{run}");
        assert!(run.stderr.contains(command), "{run}");
        for entry in fs::read_dir(world.state()).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(
                name == "lock" || name == "users",
                "{} is left",
                name.display()
            );
        }
    }
}

#[test]
fn what_the_machine_lacks() {
    let world = World::builder().own_state().build();
    fs::copy(binary(), world.dir().join("egress")).unwrap();
    let place = world.dir().join("work");
    let hide = "grep -w cgroup2 /proc/self/mounts | cut -d\" \" -f2 | xargs -n1 umount -l";
    let user = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    for (what, before, todo) in [
        (
            "cgroup v2",
            format!("unshare -m bash -c '{hide}; exec \"$@\"' -"),
            "mount -t cgroup2",
        ),
        ("root", user.to_owned(), "sudo"),
    ] {
        let output = world.shell(&format!(
            "mkdir -p -m 777 work && cd work && {before} ../egress run --packet-dir packet -- echo RAN"
        ));
        assert_refused(&world, what, &output, 125, &[&place]);
        assert!(output.stderr.contains(todo), "{what}: {output}");
        let doctor = world.shell(&format!("cd work && {before} ../egress doctor"));
        assert_eq!(doctor.status, Some(1), "{what}: {doctor}");
        assert!(doctor.stdout.contains("missing"), "{what}: {doctor}");
        assert!(doctor.stdout.contains(todo), "{what}: {doctor}");
    }
}
