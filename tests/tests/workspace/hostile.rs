//! Traps that a command leaves in the workspace for the supervisor and for the next run.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use egress_tests::changes::{
    apply, assert_ran, assert_refused, changes, outcome, stores, wait_for_change,
};
use egress_tests::{Process, RunOutput, World};
use nix::sys::signal::Signal;

/// Time limit of a run whose command does nothing. A run that waits for a FIFO exceeds this limit.
const SOON: Duration = Duration::from_secs(20);

/// Creates nested directories. The arguments are the number of directories and the length of their names.
const NEST: &str = "python3 -c '
import os, sys
for _ in range(int(sys.argv[1])):
    name = \"d\" * int(sys.argv[2])
    os.mkdir(name); os.chdir(name)
open(\"file\", \"w\").close()' ";

/// Claims: read-changes, long-paths
#[test]
fn a_tree_that_no_path_can_name_stops_no_run() {
    let world = World::new();
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    let control = world.shell(&format!("cd {} && {NEST} 20 250", by_hand.display()));
    assert!(control.success(), "{control}");
    let found = world.shell(&format!(
        "find {} -name file -printf '%P' | wc -c",
        by_hand.display()
    ));
    assert_eq!(found.stdout.trim(), "5024", "{found}");

    for (count, length) in [(20, 250), (3000, 1)] {
        let run = apply(&world)
            .script(&format!(
                "{NEST} {count} {length}; echo fine >fine; echo DONE"
            ))
            .run();
        assert_ran(&run);
        assert_eq!(outcome(&run, "fine").0, "applied");
        let last = changes(&run).pop().unwrap();
        let deep = changes(&run)
            .into_iter()
            .filter(|change| change["reason"] == "too_deep")
            .count();
        assert_eq!(deep, 1, "{last}");
        let next = apply(&world).workdir(&run.workdir).command(["true"]).run();
        assert_eq!(next.status, Some(0), "{next}");
        assert!(stores(&run.workdir).is_empty(), "{next}");
    }
}

/// Claims: protected-paths
#[test]
fn files_of_the_next_run_cannot_be_replaced_through_their_paths() {
    const ATTEMPT: &str = "rm conf; mkdir conf; echo owned >conf/policy.yaml
        rm keys/boundary; echo owned >keys/boundary; rm mine; echo owned >mine; echo DONE";
    let world = World::new();
    let lay = |dir: &Path| {
        for name in ["real", "keys"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        fs::write(dir.join("real/policy.yaml"), "mode: strict\n").unwrap();
        fs::write(dir.join("real/mine"), "mine").unwrap();
        for (to, name) in [
            ("real", "conf"),
            ("../../key", "keys/boundary"),
            ("real/mine", "mine"),
        ] {
            symlink(to, dir.join(name)).unwrap();
        }
    };
    let owned = |dir: &Path| -> Vec<&str> {
        let names = ["conf/policy.yaml", "keys/boundary", "mine"];
        let is_owned = |name: &&str| fs::read(dir.join(name)).is_ok_and(|text| text == b"owned\n");
        names.into_iter().filter(is_owned).collect()
    };
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    lay(&by_hand);
    let control = world.shell(&format!("cd {}; {ATTEMPT}", by_hand.display()));
    assert!(control.success(), "{control}");
    assert_eq!(owned(&by_hand).len(), 3);

    let run = world.egress().arg("--workspace").arg("apply");
    let work = run.directory();
    lay(&work);
    let key = work.with_file_name("key");
    let made = world.runner([
        egress_tests::binary().as_os_str(),
        "keygen".as_ref(),
        "--out".as_ref(),
        key.as_os_str(),
    ]);
    assert!(made.success(), "{made}");
    let run = run
        .arg("--config")
        .arg(work.join("conf/policy.yaml"))
        .arg("--boundary-key")
        .arg(work.join("keys/boundary"))
        .arg("--protect")
        .arg("mine")
        .script(ATTEMPT)
        .run();
    assert_ran(&run);
    assert_eq!(owned(&run.workdir), Vec::<&str>::new(), "{run}");
    for name in ["conf", "keys/boundary", "mine"] {
        assert_refused(&run, name, "protected");
    }
    // A protected link also protects the file that it leads to.
    let run = apply(&world)
        .workdir(&run.workdir)
        .arg("--protect")
        .arg("mine")
        .script("echo owned >real/mine; ln -s .git/hooks hooks; ln -s real/mine other; echo DONE")
        .run();
    assert_ran(&run);
    assert_refused(&run, "real/mine", "protected");
    assert_refused(&run, "other", "protected");
    assert_refused(&run, "hooks", "git_directory");
}

/// Claims: protected-paths*
#[test]
fn links_to_packet_key_pipelock_and_program_cannot_be_replaced() {
    const NAMES: [&str; 4] = ["out/note", "keys/signer", "bin/pipelock", "bin/egress"];
    const ATTEMPT: &str = "rm out; mkdir out; echo owned >out/note
        for link in keys/signer bin/pipelock bin/egress; do rm $link; echo owned >$link; done; echo DONE";
    let world = World::new();
    let key = world.key("signer");
    let double = Path::new(env!("CARGO_BIN_EXE_pipelock-double"));
    let lay = |dir: &Path| {
        for name in ["results", "keys", "bin"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        for (to, name) in [
            (Path::new("results"), "out"),
            (&key, "keys/signer"),
            (double, "bin/pipelock"),
            (&egress_tests::binary(), "bin/egress"),
        ] {
            symlink(to, dir.join(name)).unwrap();
        }
    };
    let owned = |dir: &Path| -> Vec<&str> {
        let is_owned = |name: &&str| fs::read(dir.join(name)).is_ok_and(|text| text == b"owned\n");
        NAMES.into_iter().filter(is_owned).collect()
    };
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    lay(&by_hand);
    let control = world.shell(&format!("cd {}; {ATTEMPT}", by_hand.display()));
    assert!(control.success(), "{control}");
    assert_eq!(owned(&by_hand), NAMES);

    let run = apply(&world);
    let work = run.directory();
    lay(&work);
    let run = run
        .binary(&work.join("bin/egress"))
        .arg("--mediator")
        .arg("pipelock")
        .arg("--pipelock-bin")
        .arg(work.join("bin/pipelock"))
        .signed_with(&work.join("keys/signer"))
        .packet_dir(&work.join("out/packet"))
        .script(ATTEMPT)
        .run();
    assert_eq!(run.stdout, "DONE\n", "{run}");
    assert_eq!(owned(&run.workdir), Vec::<&str>::new(), "{run}");
    for name in ["out", "keys/signer", "bin/pipelock", "bin/egress"] {
        assert_refused(&run, name, "protected");
        assert!(work.join(name).is_symlink(), "{name}: {run}");
    }
}

/// The call that root would make in a forged store if it trusted the store's name: it opens the lock file.
const FOLLOW: &str = "timeout 2 bash -c ': >>.egress-aa/lock'";

/// Claims: read-stores, store-mark
#[test]
fn nothing_is_followed_in_a_store_that_an_agent_forged() {
    let world = World::new();
    let owned = world.dir().join("owned");
    let forge = format!(
        "mkdir -m 700 .egress-aa .egress-bb; ln -s {} .egress-aa/lock; mkfifo .egress-bb/lock; echo DONE",
        owned.display()
    );
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    let control = world.shell(&format!("cd {} && {forge}; {FOLLOW}", by_hand.display()));
    assert!(control.success() && owned.exists(), "{control}");
    fs::remove_file(&owned).unwrap();
    let fifo = FOLLOW.replace("-aa", "-bb");
    let control = world.shell(&format!("cd {} && {fifo}", by_hand.display()));
    assert_eq!(control.status, Some(124), "{control}");

    let run = world
        .egress()
        .arg("--workspace")
        .arg("direct")
        .script(&forge)
        .run();
    assert_ran_beside(&run);
    for mode in ["direct", "apply", "copy"] {
        let next = world
            .egress()
            .arg("--workspace")
            .arg(mode)
            .workdir(&run.workdir)
            .command(["true"])
            .limit(SOON)
            .run();
        assert_eq!(next.status, Some(0), "{mode}: {next}");
    }
    let doctor = ["doctor".as_ref(), "--repair".as_ref(), "--workdir".as_ref()];
    let doctor = world.tool(doctor.into_iter().chain([run.workdir.as_os_str()]));
    assert!(!doctor.timed_out, "{doctor}");
    assert!(!owned.exists(), "root followed the link");
}

#[test]
fn nothing_of_a_forged_store_is_read_into_memory() {
    const SIZE: u64 = 512 << 20;
    let world = World::new();
    // Runs its arguments, and writes the memory of the largest process to a file.
    let meter = world.dir().join("meter");
    let peak = world.dir().join("peak");
    fs::write(
        &meter,
        format!(
            "#!/usr/bin/python3\nimport resource, subprocess, sys
argv = sys.argv[1:] if sys.argv[1].startswith('/') else ['{}'] + sys.argv[1:]
status = subprocess.run(argv).returncode
open('{}', 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10))
sys.exit(status)",
            egress_tests::binary().display(),
            peak.display()
        ),
    )
    .unwrap();
    fs::set_permissions(&meter, fs::Permissions::from_mode(0o755)).unwrap();
    let taken = || -> u64 { fs::read_to_string(&peak).unwrap().parse().unwrap() };

    let forge = format!(
        "mkdir -m 700 .egress-aa; cd .egress-aa; touch lock; truncate -s {SIZE} run.json plan.json; echo DONE"
    );
    let run = world
        .egress()
        .arg("--workspace")
        .arg("direct")
        .script(&forge)
        .run();
    assert_ran_beside(&run);
    let control = world.runner([
        meter.as_os_str(),
        "/usr/bin/python3".as_ref(),
        "-c".as_ref(),
        "import sys; open(sys.argv[1], 'rb').read()".as_ref(),
        run.workdir.join(".egress-aa/run.json").as_os_str(),
    ]);
    assert!(control.success() && taken() > SIZE, "{control}");

    let next = apply(&world)
        .workdir(&run.workdir)
        .binary(&meter)
        .command(["true"])
        .run();
    assert_eq!(next.status, Some(0), "{next}");
    assert!(taken() < SIZE / 2, "{} bytes: {next}", taken());
}

/// Claims: store-mark
#[test]
fn no_store_is_planted_where_a_nested_workspace_looks_for_one() {
    const FORGE: &str = "ln -s . d; mkdir -m 700 pkgs/.egress-aa
        ln -s ../../d/.github/workflows/ci.yml pkgs/.egress-aa/lock; echo DONE";
    let world = World::new();
    let before = "mkdir -p .github/workflows pkgs/app";
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    let control = world.shell(&format!(
        "cd {} && {before} && {FORGE} && cd pkgs && {FOLLOW}",
        by_hand.display()
    ));
    let planted = |work: &Path| work.join(".github/workflows/ci.yml").exists();
    assert!(planted(&by_hand), "{control}");

    for mode in ["apply", "direct"] {
        let run = world.egress().arg("--workspace").arg(mode);
        let work = run.directory();
        let made = world.shell(&format!("cd {} && {before}", work.display()));
        assert!(made.success(), "{made}");
        let run = run.script(FORGE).run();
        assert_ran(&run);
        if mode == "apply" {
            assert_refused(&run, "pkgs/.egress-aa", "protected");
            assert!(!work.join("pkgs/.egress-aa").exists(), "{run}");
        }
        let next = apply(&world)
            .workdir(&work.join("pkgs/app"))
            .command(["true"])
            .limit(SOON)
            .run();
        assert_eq!(next.status, Some(0), "{next}");
        assert!(!planted(&work), "{mode}: {next}");
    }
}

/// Claims: read-stores, store
#[test]
fn what_a_killed_run_left_is_closed_to_the_agent_of_an_outer_workspace() {
    const LOOK: &str = "cd pkgs/.egress-*/ && ls && mkdir planted && echo LOOKED";
    let world = World::new();
    let outer = world.egress().arg("--workspace").arg("direct");
    let work = outer.directory();
    let nested = work.join("pkgs/app");
    fs::create_dir_all(&nested).unwrap();
    let run = apply(&world)
        .workdir(&nested)
        .script("echo 1 >new; touch ready; sleep 60");
    let (running, _, _) = run.start();
    let store = wait_for_change(&nested, "ready");
    running.signal(Signal::SIGKILL);
    running.finish(SOON);
    let control = world.shell(&format!("cd {} && {LOOK}", work.display()));
    assert!(control.stdout.ends_with("LOOKED\n"), "{control}");
    fs::remove_dir(store.join("planted")).unwrap();
    // No process has the user that owns the store.
    let owner = |path: &Path| fs::metadata(path).map(|metadata| metadata.uid());
    let user = owner(&store).unwrap();
    assert!(store.join("upper/new").exists());
    let is_its =
        |process: &Process| owner(Path::new(&format!("/proc/{}", process.id()))).ok() == Some(user);
    assert!(!Process::all().iter().any(is_its), "{user}");

    // Here, root owns the workspace, so the command's user is mapped to root.
    let run = outer
        .command([
            "bash",
            "-c",
            &format!("stat -c %u pkgs pkgs/.egress-*; {LOOK}"),
        ])
        .run();
    assert!(run.stdout.lines().count() == 2, "{run}");
    assert!(!store.join("planted").exists(), "{run}");
    let next = apply(&world)
        .workdir(&nested)
        .command(["echo", "DONE"])
        .run();
    assert_ran(&next);
    assert!(next.stderr.contains("recovered"), "{next}");
}

/// Claims: read-named-files
#[test]
fn files_that_the_caller_names_are_not_waited_for() {
    const ATTEMPT: &str = "mv named away; mkdir named; mkfifo -m 600 named/file; echo DONE";
    let world = World::new();
    let run = world.egress().arg("--workspace").arg("direct");
    let work = run.directory();
    fs::create_dir(work.join("named")).unwrap();
    let policy = work.join("named/file");
    fs::write(&policy, "mode: strict\n").unwrap();
    let run = run.arg("--config").arg(&policy).script(ATTEMPT).run();
    assert_ran(&run);
    let control = world.shell(&format!("timeout 2 cat {}", policy.display()));
    assert_eq!(control.status, Some(124), "{control}");
    for option in ["--config", "--signer-private-key", "--boundary-key"] {
        let next = world
            .egress()
            .arg(option)
            .arg(&policy)
            .command(["true"])
            .limit(SOON)
            .run();
        assert_eq!(next.status, Some(64), "{option}: {next}");
        assert!(
            next.stderr.contains("not a regular file"),
            "{option}: {next}"
        );
    }
}

/// Fails unless the command printed `DONE` at its end. A directory that looks like a store may be left.
#[track_caller]
fn assert_ran_beside(run: &RunOutput) {
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.ends_with("DONE\n"), "{run}");
}
