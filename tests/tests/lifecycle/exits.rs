//! Exit statuses, which are a stable interface.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use egress_tests::aftermath::until_ready;
use egress_tests::evidence::public_key_hex;
use egress_tests::{Run, World, binary, wait_until};
use nix::sys::signal::Signal;

/// Time limit for anything that should happen at once, even on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// A command that shows whether it ran.
const LOUD: &str = "echo RAN";

/// Fails unless the run ends with `status` and one error, before the command ran.
#[track_caller]
fn assert_refused(run: Run<'_>, status: i32) {
    let run = run.run();
    assert_eq!(run.status, Some(status), "{run}");
    let errors = run.stderr.lines().filter(|line| line.starts_with("error:"));
    assert_eq!(errors.count(), 1, "one error: {run}");
    assert!(!run.stdout.contains("RAN"), "the agent ran: {run}");
}

#[test]
fn status_of_the_agent_is_the_status_of_the_run() {
    let world = World::new();
    for status in [0, 1, 7, 255] {
        let run = world
            .egress()
            .allow(&[])
            .script(&format!("exit {status}"))
            .run();
        assert_eq!(run.status, Some(status), "{run}");
    }
    let run = world.egress().allow(&[]).script("kill -KILL $$").run();
    assert_eq!(run.status, Some(128 + 9), "{run}");
}

#[test]
fn command_that_cannot_run() {
    let world = World::new();
    let dir = tempfile::tempdir_in("/opt").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir_all(closed.join("bin")).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy("/bin/true", closed.join("bin/hidden")).unwrap();
    let entered = format!(
        "the command does not have permission to enter {}",
        closed.display()
    );
    let path = format!("{}/bin:/usr/bin:/bin", closed.display());
    let absolute = closed.join("bin/hidden").display().to_string();
    fs::write(dir.path().join("interpreter"), "").unwrap();
    let locked = format!(
        "locked exists, but the command may not execute {absolute} in its first line, because it may not enter {}",
        closed.display()
    );
    let unready = format!(
        "unready exists, but the command may not execute {}/interpreter in its first line",
        dir.path().display()
    );
    // Root may enter the closed directory, so the same script runs without the boundary.
    let control = dir.path().join("control");
    fs::write(&control, format!("#!{absolute}\n")).unwrap();
    fs::set_permissions(&control, fs::Permissions::from_mode(0o755)).unwrap();
    let control = world.shell(&control.display().to_string());
    assert!(control.success(), "{control}");
    let cases: [(&str, &[&str], i32, &str); 10] = [
        ("/bin", &["/nowhere/agent"], 127, "it was not found"),
        ("/bin", &["missing"], 127, "it was not found"),
        // A directory of PATH that the command cannot enter is named, and does not change the status.
        (&path, &["missing"], 127, &entered),
        (&path, &["hidden"], 127, &entered),
        ("/bin", &[&absolute], 127, &entered),
        (
            "/bin",
            &["./plain.txt"],
            126,
            "plain.txt is not executable for all users",
        ),
        (
            "/bin",
            &["./script"],
            126,
            "script is not a program, and has no first line",
        ),
        (
            "/bin",
            &["./lost"],
            127,
            "lost exists, but /no/interpreter in its first line was not found",
        ),
        ("/bin", &["./locked"], 126, &locked),
        ("/bin", &["./unready"], 126, &unready),
    ];
    for (path, command, status, text) in cases {
        let run = world.egress().allow(&[]).env("PATH", path);
        let run = run.file("plain.txt", "no program");
        let run = run
            .file("script", "echo RAN\n")
            .file("lost", "#!/no/interpreter -x\n")
            .file("locked", format!("#!{absolute}\n"))
            .file(
                "unready",
                format!("#!{}/interpreter\n", dir.path().display()),
            );
        for name in ["script", "lost", "locked", "unready"] {
            let executable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(run.directory().join(name), executable).unwrap();
        }
        let run = run.command(command.iter().copied()).run();
        assert_eq!(run.status, Some(status), "{run}");
        let errors = run.stderr.lines().filter(|line| line.starts_with("error:"));
        let errors: Vec<&str> = errors.collect();
        assert!(
            errors.len() == 1 && errors[0].contains(text),
            "{text}: {run}"
        );
    }
    // The name of a file in the working directory is not a path to the file.
    let script = |word: &'static str| {
        let run = world.egress().allow(&[]).file("ag.sh", "#!/bin/sh\n");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(run.directory().join("ag.sh"), executable).unwrap();
        run.command([word]).run()
    };
    let run = script("ag.sh");
    assert_eq!(run.status, Some(127), "{run}");
    let hint = "\n  hint: ag.sh is in the working directory, which is not in PATH; write ./ag.sh\n";
    assert!(run.stderr.contains(hint), "{run}");
    let run = script("./ag.sh");
    assert_eq!(run.status, Some(0), "{run}");
    // A later directory of PATH that has the command is used.
    let run = world.egress().allow(&[]).env("PATH", &path);
    let run = run.command(["true"]).run();
    assert_eq!(run.status, Some(0), "{run}");
}

#[test]
fn agent_that_takes_too_long() {
    let world = World::new();
    let run = world
        .egress()
        .allow(&[])
        .arg("--timeout")
        .arg("1")
        .script("sleep 60")
        .run();
    assert_eq!(run.status, Some(124), "{run}");
    assert!(run.elapsed < Duration::from_secs(20), "{run}");
    assert!(run.packet.join("packet.json").exists(), "{run}");
}

/// Claims: supervise
#[test]
fn interruption_and_termination_reach_the_agent_and_the_packet_is_written() {
    // A shell cannot trap a signal that was ignored when the shell started, and a shell makes its background processes
    // ignore INT.
    const AGENT: &str = "trap 'echo caught; exit 8' INT; trap 'echo caught; exit 9' TERM
        touch ready; while :; do sleep 0.1; done";
    let world = World::new();
    for (signal, status) in [(Signal::SIGINT, 8), (Signal::SIGTERM, 9)] {
        let (running, packet, workdir) = world
            .egress()
            .allow(&[])
            .command(["env", "--default-signal=INT,TERM", "bash", "-c", AGENT])
            .start();
        until_ready(&workdir, LONG);
        running.signal(signal);
        let output = running.finish(Duration::from_secs(20));
        assert_eq!(output.status, Some(status), "{output}");
        assert!(output.stdout.contains("caught"), "{output}");
        assert!(packet.join("packet.json").exists(), "{output}");
    }
}

#[test]
fn second_termination_kills() {
    let world = World::new();
    let (running, packet, workdir) = world
        .egress()
        .allow(&[])
        .script("trap 'touch caught' TERM; touch ready; while :; do sleep 0.1; done")
        .start();
    until_ready(&workdir, LONG);
    running.signal(Signal::SIGTERM);
    wait_until("the signal is caught", LONG, || {
        workdir.join("caught").exists()
    });
    running.signal(Signal::SIGTERM);
    let output = running.finish(Duration::from_secs(20));
    assert!(!output.timed_out, "{output}");
    assert_eq!(output.status, Some(128 + 9), "{output}");
    assert!(packet.join("packet.json").exists(), "{output}");
}

#[test]
fn wrong_usage() {
    let world = World::new();
    // This run has no command.
    assert_refused(world.egress().allow(&[]), 64);
    // The working directory does not exist.
    let nowhere = world.dir().join("nowhere");
    let run = world.egress().allow(&[]);
    assert_refused(run.arg("--workdir").arg(&nowhere).command(["true"]), 64);
    // The script is outside the working directory, given by its path or by a link.
    let outside = world.dir().join("outside.sh");
    fs::write(&outside, LOUD).unwrap();
    let run = world.egress().allow(&[]);
    assert_refused(run.arg("--script").arg(&outside), 64);
    let workdir = world.dir().join("workdir");
    fs::create_dir(&workdir).unwrap();
    symlink(&outside, workdir.join("link.sh")).unwrap();
    let run = world.egress().allow(&[]).workdir(&workdir);
    assert_refused(run.arg("--script").arg(workdir.join("link.sh")), 64);
}

#[test]
fn wrong_policies() {
    let world = World::new();
    for yaml in [
        "mode: strict\n  api_allowlist: [",
        "mode: strict\nno_such_key: 1\n",
        "mode: audit\n",
        "mode: strict\ndlp:\n  scan_env: true\n",
    ] {
        assert_refused(world.egress().config(yaml).script(LOUD), 64);
    }
    let missing = world.egress().arg("--config").arg("/nowhere.yaml");
    assert_refused(missing.script(LOUD), 64);
}

#[test]
fn wrong_keys() {
    let world = World::new();
    let broken = world.dir().join("broken.key");
    fs::write(&broken, "not a key\n").unwrap();
    let run = world.egress().allow(&[]).signed_with(&broken);
    assert_refused(run.script(LOUD), 64);
    // A public key is given without the private one.
    let key = world.key("key");
    let run = world.egress().allow(&[]).arg("--signer-public-key");
    assert_refused(run.arg(public_key_hex(&key)).script(LOUD), 64);
    // The public key does not match the private one.
    let other = public_key_hex(&world.key("other"));
    let run = world.egress().allow(&[]).signed_with(&key);
    assert_refused(run.arg("--signer-public-key").arg(other).script(LOUD), 64);
}

#[test]
fn wrong_packet_directories() {
    let world = World::new();
    let elsewhere = world.dir().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let link = world.dir().join("link");
    symlink(&elsewhere, &link).unwrap();
    let foreign = world.dir().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis.txt"), "years of work").unwrap();
    let file = world.dir().join("file");
    fs::write(&file, "").unwrap();
    for path in [&link, &foreign, &file] {
        let run = world.egress().allow(&[]).packet_dir(path);
        assert_refused(run.script(LOUD), 64);
    }
    assert_eq!(
        fs::read_to_string(foreign.join("thesis.txt")).unwrap(),
        "years of work"
    );
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

/// Claims: packet-replaced
#[test]
fn packet_of_an_earlier_run_is_replaced_whole() {
    let world = World::new();
    let first = world.egress().allow(&[]).script("true").run();
    assert_eq!(first.status, Some(0), "{first}");
    let before = fs::read(first.packet.join("packet.json")).unwrap();
    let again = world.egress().allow(&[]).packet_dir(&first.packet);
    let second = again.script("false").run();
    assert_eq!(second.status, Some(1), "{second}");
    assert_ne!(fs::read(first.packet.join("packet.json")).unwrap(), before);
}

#[test]
fn caller_that_is_not_root() {
    let world = World::new();
    // Other users may not be able to read the build directory, so the binary is copied.
    let copy = world.dir().join("egress");
    fs::copy(binary(), &copy).unwrap();
    let output = world.shell(&format!(
        "mkdir -m 777 work && cd work &&
         setpriv --reuid 65534 --regid 65534 --clear-groups {} run -- true",
        copy.display()
    ));
    assert_eq!(output.status, Some(125), "{output}");
    assert_eq!(output.stderr.matches("error:").count(), 1, "{output}");
}

#[test]
fn root_of_a_user_namespace_is_not_root_of_the_host() {
    let world = World::new();
    let binary = binary();
    let egress = |words: &str| {
        // An ordinary user cannot create a packet in this directory either.
        world.shell(&format!(
            "cd / && setpriv --reuid 65534 --regid 65534 --clear-groups unshare -Ur {words}"
        ))
    };
    let control = egress("true");
    assert!(control.success(), "{control}");
    let shared = tempfile::tempdir_in("/opt").unwrap();
    fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = shared.path().join("egress");
    fs::copy(binary, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let run = egress(&format!("{} run -- true", copy.display()));
    assert_eq!(run.status, Some(125), "{run}");
    let doctor = egress(&format!("{} doctor", copy.display()));
    assert_eq!(doctor.status, Some(1), "{doctor}");
    for (output, text) in [
        (&run.stderr, "this process is root only in a user namespace"),
        (&run.stderr, "root of a user namespace is not enough"),
        (
            &doctor.stdout,
            "this process is root only in a user namespace",
        ),
        (&doctor.stdout, "root of a user namespace is not enough"),
    ] {
        assert!(output.contains(text), "{text}: {run}\n{doctor}");
    }
    assert!(!doctor.stdout.contains("/run/egress writable"), "{doctor}");
}
