//! What the agent writes: kept apart while it runs, applied at the end as far as the rules allow.
#![forbid(unsafe_code)]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test on the spot"
)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use egress_tests::{Run, RunOutput, World};
use nix::sys::signal::Signal;
use serde_json::Value;

fn apply(world: &World) -> Run<'_> {
    world.egress().allow(&[]).arg("--workspace").arg("apply")
}

#[track_caller]
fn assert_ran(run: &RunOutput) {
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.ends_with("DONE\n"), "{run}");
    assert_eq!(stores(&run.workdir), Vec::<PathBuf>::new(), "{run}");
}

/// Directories beside the workspace that hold changes.
fn stores(workdir: &Path) -> Vec<PathBuf> {
    fs::read_dir(workdir.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .as_bytes()
                .starts_with(b".egress-")
        })
        .collect()
}

fn changes(run: &RunOutput) -> Vec<Value> {
    run.json("changes.json")["changes"]
        .as_array()
        .unwrap()
        .clone()
}

/// Outcome and reason of the change at `path`.
#[track_caller]
fn outcome(run: &RunOutput, path: &str) -> (String, String) {
    let all = changes(run);
    let change = all
        .iter()
        .find(|change| change["path"] == path)
        .unwrap_or_else(|| panic!("no change at {path}: {all:#?}\n{run}"));
    let text = |name: &str| change[name].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("reason"))
}

#[track_caller]
fn assert_refused(run: &RunOutput, path: &str, reason: &str) {
    let refused = (String::from("refused"), reason.to_owned());
    assert_eq!(outcome(run, path), refused, "{path}: {run}");
}

/// Everything below `dir`: path, mode, owner, content or target.
fn listing(dir: &Path) -> Vec<(Vec<u8>, u32, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_dir() {
                open.push(path.clone());
                Vec::new()
            } else if meta.is_symlink() {
                fs::read_link(&path)
                    .unwrap()
                    .as_os_str()
                    .as_bytes()
                    .to_vec()
            } else {
                fs::read(&path).unwrap()
            };
            let name = path.strip_prefix(dir).unwrap().as_os_str().as_bytes();
            found.push((name.to_vec(), meta.mode(), meta.uid(), content));
        }
    }
    found.sort();
    found
}

/// Makes `before` in two directories owned by an ordinary user, lets `script` change one by hand and
/// one behind the boundary, and fails unless they end up the same.
#[track_caller]
fn assert_same_as_by_hand(before: &str, script: &str) -> (World, RunOutput) {
    const OWNER: u32 = 1000;
    let world = World::new();
    let by_hand = world.dir().join("by-hand");
    let run = apply(&world);
    let work = run.directory();
    fs::create_dir(&by_hand).unwrap();
    for dir in [&by_hand, &work] {
        let made = world.shell(&format!(
            "cd {} && umask 022 && {before}\nchown -R {OWNER}:{OWNER} .",
            dir.display()
        ));
        assert!(made.success(), "{made}");
    }
    let script = format!("set -e; umask 022\n{script}\necho DONE\n");
    let file = world.dir().join("script.sh");
    fs::write(&file, &script).unwrap();
    let control = world.shell(&format!(
        "cd {} && setpriv --reuid {OWNER} --regid {OWNER} --clear-groups bash {}",
        by_hand.display(),
        file.display()
    ));
    assert!(control.success(), "by hand: {control}");
    let run = run.command(["bash", "-c", &script]).run();
    assert_ran(&run);
    assert_eq!(listing(&work), listing(&by_hand), "{run}");
    let refused: Vec<Value> = changes(&run)
        .into_iter()
        .filter(|change| change["outcome"] != "applied")
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(!run.packet.join("workspace-changes.tar").exists());
    (world, run)
}

#[test]
fn files_come_and_go_as_by_hand() {
    let (_world, run) = assert_same_as_by_hand(
        "mkdir -p keep gone/deep; echo 1 >keep/a; echo 2 >gone/deep/b; echo 3 >c; echo 4 >d; ln -s d l",
        "echo more >>keep/a; rm -r gone; rm c; mkdir -p new/er; echo 5 >new/er/f; chmod 750 new
         chmod 600 d; ln -s er/f new/link; rm l; mkdir l; echo 6 >l/x; chmod 555 new/er",
    );
    let boundary = run.json("boundary.json");
    assert_eq!(boundary["workspace"]["mode"], "apply");
    assert_eq!(boundary["workspace"]["changes"]["refused"], 0);
    // The digest of an applied file is that of its content.
    let all = changes(&run);
    let file = all.iter().find(|change| change["path"] == "new/er/f");
    let digest = "f0b5c2c2211c8d67ed15e75e656c7862d086e9245420892a7de62cd9ec582a06";
    assert_eq!(file.unwrap()["sha256"], digest);
}

#[test]
fn directories_are_renamed() {
    assert_same_as_by_hand(
        "mkdir -p a/d b s/t/u; echo 1 >a/f; echo 2 >a/d/g; echo 3 >b/h; echo 4 >s/t/u/v; mkdir over",
        "mv a tmp; mv b a; mv tmp b; mkdir n; mv b/d n/d2; echo x >>a/h; echo y >n/d2/new
         mv s/t/u n/u; mv n n2; rmdir s/t; mv s over; rm b/f; mkdir a/s2; mv over a/s2/over",
    );
}

#[test]
fn directories_are_removed_and_made_again() {
    assert_same_as_by_hand(
        "mkdir -p build/deep; echo 1 >build/a; echo 2 >build/deep/b; mkdir type; echo 3 >type/x; echo 4 >file",
        "rm -rf build; mkdir -p build/deep; echo 5 >build/deep/c; rm -r type; echo 6 >type; rm file; mkdir file",
    );
}

#[test]
fn links_holes_and_attributes_stay() {
    let (_world, run) = assert_same_as_by_hand("mkdir d", "echo x >a; ln a b; ln a d/c");
    let inode = |name: &str| fs::metadata(run.workdir.join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("b"));
    assert_eq!(inode("a"), inode("d/c"));

    let world = World::new();
    let run = apply(&world)
        .script(
            "truncate -s 2G sparse && printf end >>sparse
             python3 -c 'import os
os.setxattr(\".\" if False else \"sparse\", \"user.note\", b\"kept\"); os.mkdir(\"dir\")
os.setxattr(\"dir\", \"user.note\", b\"kept too\"); os.utime(\"sparse\", (1, 12345))'
             echo DONE",
        )
        .run();
    assert_ran(&run);
    let meta = fs::metadata(run.workdir.join("sparse")).unwrap();
    assert_eq!((meta.len(), meta.mtime()), ((2 << 30) + 3, 12345));
    assert!(meta.blocks() < 1024, "{} blocks", meta.blocks());
    let read = world.shell(&format!(
        "cd {} && python3 -c 'import os
print(os.getxattr(\"sparse\", \"user.note\"), os.getxattr(\"dir\", \"user.note\"), os.listxattr(\"sparse\"))'",
        run.workdir.display()
    ));
    assert_eq!(read.stdout, "b'kept' b'kept too' ['user.note']\n", "{read}");
}

#[test]
fn names_of_any_bytes() {
    let world = World::new();
    let run = apply(&world)
        .script(
            "python3 -c 'import os
for name in [b\"new\\nline\", b\"\\xff\\xfe\", b\"back\\\\slash\", b\" \", b\"x\" * 255, b\"-rf\"]:
    open(name, \"w\").write(\"1\")
    os.mkdir(b\"d\" + name[1:]); open(b\"d\" + name[1:] + b\"/\" + name, \"w\")'
             echo DONE",
        )
        .run();
    assert_ran(&run);
    for name in [
        b"new\nline".as_slice(),
        b"\xff\xfe",
        b"back\\slash",
        &[b'x'; 255],
        b"-rf",
    ] {
        let name = OsStr::from_bytes(name);
        assert_eq!(fs::read(run.workdir.join(name)).unwrap(), b"1", "{name:?}");
    }
    assert_eq!(outcome(&run, r"\xff\xfe").0, "applied");
}

#[test]
fn fifty_thousand_files() {
    let world = World::new();
    let run = apply(&world)
        .script(
            "python3 -c 'import os
for d in range(500):
    os.mkdir(f\"d{d}\")
    for f in range(100): open(f\"d{d}/f{f}\", \"w\").write(str(f))'
             echo DONE",
        )
        .limit(Duration::from_mins(3))
        .run();
    assert_ran(&run);
    assert_eq!(listing(&run.workdir).len(), 50_500 + 1);
    let timeline = run.json("boundary.json")["timeline"].clone();
    let at = |step: &str| {
        let marks = timeline.as_array().unwrap();
        let mark = marks.iter().find(|mark| mark["step"] == step).unwrap();
        mark["at_us"].as_u64().unwrap()
    };
    let took = Duration::from_micros(at("workspace done") - at("agent gone"));
    assert!(took < Duration::from_secs(20), "applying took {took:?}");
    println!("50,000 files applied in {took:?}");
}

#[test]
fn what_is_never_applied() {
    const ATTEMPT: &str = "mkdir -p .github/workflows kept/in out; echo 1 >.github/workflows/x.yml
        mkfifo pipe; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'
        cp /bin/true tool; chmod 4755 tool; ln -s /etc/passwd outside; ln -s ../x out/up
        echo 2 >kept/in/file; echo 3 >fine; echo DONE";
    let world = World::new();
    // By hand all of it takes effect.
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    let control = world.shell(&format!("cd {} && {ATTEMPT}", by_hand.display()));
    assert!(control.success(), "{control}");
    for name in [
        ".github/workflows/x.yml",
        "pipe",
        "sock",
        "outside",
        "kept/in/file",
    ] {
        assert!(fs::symlink_metadata(by_hand.join(name)).is_ok(), "{name}");
    }
    let mode = |dir: &Path| fs::metadata(dir.join("tool")).unwrap().mode() & 0o7777;
    assert_eq!(mode(&by_hand), 0o4755);

    let run = apply(&world).arg("--protect").arg("kept/in");
    let packet = run.directory().join("audit");
    let run = run.packet_dir(&packet).script(ATTEMPT).run();
    assert_ran(&run);
    for (name, reason) in [
        (".github", "github"),
        (".github/workflows/x.yml", "held_back"),
        ("pipe", "fifo"),
        ("sock", "socket"),
        ("outside", "points_outside"),
        ("kept/in", "protected"),
        ("kept/in/file", "held_back"),
    ] {
        assert_refused(&run, name, reason);
        let there = fs::symlink_metadata(run.workdir.join(name));
        assert!(there.is_err(), "{name} was applied: {run}");
    }
    assert_eq!(outcome(&run, "out/up").0, "applied");
    assert_eq!(outcome(&run, "fine").0, "applied");
    assert_eq!(mode(&run.workdir), 0o755);
    assert!(
        run.stderr.contains("not applied  .github (.github)"),
        "{run}"
    );
    // What was refused is kept.
    let tar = world.runner([
        OsStr::new("tar"),
        OsStr::new("tf"),
        run.packet.join("workspace-changes.tar").as_os_str(),
    ]);
    assert!(tar.stdout.contains("kept/in/file"), "{tar}");
    assert!(tar.stdout.contains("outside"), "{tar}");
}

#[test]
fn packet_and_protected_paths_cannot_be_moved_away() {
    const ATTEMPT: &str =
        "mv out elsewhere; mkdir out; echo fake >out/packet.json; rm -r kept; echo DONE";
    let world = World::new();
    let by_hand = world.dir().join("by-hand");
    let before = "mkdir -p out/audit kept/in && echo real >out/note && echo real >kept/in/file";
    let control = world.shell(&format!(
        "mkdir {0} && cd {0} && {before} && {ATTEMPT}",
        by_hand.display()
    ));
    assert!(control.success(), "{control}");
    assert!(by_hand.join("out/packet.json").exists() && !by_hand.join("kept").exists());

    let run = apply(&world).arg("--protect").arg("kept/in/file");
    let work = run.directory();
    assert!(
        world
            .shell(&format!("cd {} && {before}", work.display()))
            .success()
    );
    let run = run
        .packet_dir(&work.join("out/audit"))
        .script(ATTEMPT)
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(fs::read_to_string(work.join("out/note")).unwrap(), "real\n");
    assert_eq!(
        fs::read_to_string(work.join("kept/in/file")).unwrap(),
        "real\n"
    );
    assert!(!work.join("elsewhere").exists(), "{run}");
    assert_refused(&run, "kept", "protected");
    assert_refused(&run, "elsewhere", "protected");
}

/// A repository with one commit, a submodule and per-worktree configuration.
const REPOSITORY: &str = "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=protocol.file.allow GIT_CONFIG_VALUE_0=always
    git init -q . && git config user.email a@example.test && git config user.name a &&
    git config extensions.worktreeConfig true && echo 1 >file.txt && git add file.txt && git commit -qm one &&
    git clone -q . ../sub-$$ && git submodule --quiet add ../sub-$$ sub 2>/dev/null || git submodule --quiet add $(realpath ../sub-$$) sub;
    git commit -qm two && touch -d '1 hour ago' file.txt sub/file.txt && git status >/dev/null";

#[test]
fn nothing_planted_runs_on_the_next_git_status() {
    // MARK is the file that shows that the planted code ran; the last word is where to ask for status.
    const FSMONITOR: &str = "[core]\\n fsmonitor = \"touch MARK; :\"\\n";
    let attempts: Vec<(&str, String, &str)> = vec![
        (
            "hooks",
            "mkdir -p .git/hooks; printf '#!/bin/sh\\ntouch MARK\\n' >.git/hooks/post-index-change
             chmod +x .git/hooks/post-index-change; touch file.txt"
                .into(),
            ".",
        ),
        ("config", format!("printf '{FSMONITOR}' >>.git/config"), "."),
        (
            "config.worktree",
            format!("printf '{FSMONITOR}' >.git/config.worktree"),
            ".",
        ),
        (
            "commondir",
            format!(
                "mkdir evil; cp -r .git/config .git/objects .git/refs evil/
                 printf '{FSMONITOR}' >>evil/config; echo ../evil >.git/commondir"
            ),
            ".",
        ),
        (
            "modules/*/config",
            format!("printf '{FSMONITOR}' >>.git/modules/sub/config; echo x >>sub/file.txt"),
            ".",
        ),
        (
            "attributes and filters",
            "echo '*.txt filter=evil' >.gitattributes; touch file.txt
             printf '[filter \"evil\"]\\n clean = \"touch MARK; cat\"\\n' >>.git/config"
                .into(),
            ".",
        ),
        (
            "renamed .git",
            format!("mv .git old; cp -r old .git; printf '{FSMONITOR}' >>.git/config"),
            ".",
        ),
        (
            ".git replaced by a file",
            format!("mv .git real; printf '{FSMONITOR}' >>real/config; echo 'gitdir: real' >.git"),
            ".",
        ),
        (
            "new git directory",
            format!("mkdir new; cd new; git init -q .; printf '{FSMONITOR}' >>.git/config"),
            "new",
        ),
        (
            "new file named .git",
            format!(
                "mkdir new; git init -q --bare store; git -C store config core.bare false
                 printf '{FSMONITOR}' >>store/config; echo \"gitdir: ../store\" >new/.git"
            ),
            "new",
        ),
        (
            "directory that looks like a bare repository",
            format!(
                "git init -q --bare bare; git -C bare config core.bare false
                 git -C bare config core.worktree ..; printf '{FSMONITOR}' >>bare/config"
            ),
            "bare",
        ),
    ];
    let world = World::new();
    for (number, (name, attempt, place)) in attempts.iter().enumerate() {
        let mark = world.dir().join(format!("mark-{number}"));
        let attempt = attempt.replace("MARK", &mark.display().to_string());
        let status = |dir: &Path| {
            world.shell(&format!(
                "cd {} 2>/dev/null && git status >/dev/null 2>&1",
                dir.join(place).display()
            ))
        };
        let by_hand = world.dir().join(format!("by-hand-{number}"));
        let control = world.shell(&format!(
            "mkdir {0} && cd {0} && {REPOSITORY}\n( {attempt}\n)",
            by_hand.display()
        ));
        assert!(control.success(), "{name}: {control}");
        status(&by_hand);
        assert!(mark.exists(), "{name}: by hand it does not run either");
        fs::remove_file(&mark).unwrap();

        let run = apply(&world);
        let work = run.directory();
        let made = world.shell(&format!("cd {} && {REPOSITORY}", work.display()));
        assert!(made.success(), "{made}");
        let run = run
            .command(["bash", "-c", &format!("( {attempt}\n); echo DONE")])
            .run();
        assert_ran(&run);
        let after = status(&work);
        assert!(!mark.exists(), "{name} took effect: {run}");
        if *place == "." {
            assert!(after.success(), "{name}: the repository is broken: {run}");
        }
        let reported = changes(&run)
            .iter()
            .any(|change| change["outcome"] == "refused");
        assert!(reported, "{name}: not reported: {run}");
    }
}

#[test]
fn commits_made_inside_are_there_afterwards() {
    let world = World::new();
    let run = apply(&world);
    let work = run.directory();
    let made = world.shell(&format!(
        "cd {} && {REPOSITORY} && git worktree add -q tree -b topic && git status >/dev/null",
        work.display()
    ));
    assert!(made.success(), "{made}");
    let run = run
        .command([
            "bash",
            "-c",
            "set -e; echo 2 >>file.txt; git commit -qam three; git branch side; git pack-refs --all
             cd tree; echo 3 >t; git add t; git commit -qm four; git gc -q; echo DONE",
        ])
        .run();
    assert_ran(&run);
    let log = world.shell(&format!(
        "cd {} && git fsck --strict 2>&1 && git log --format=%s && git -C tree log -1 --format=%s &&
         git rev-parse -q --verify side >/dev/null && git status --porcelain -uno && git -C tree status --porcelain",
        work.display()
    ));
    assert!(log.success(), "{log}\n{run}");
    assert!(
        log.stdout.ends_with("three\ntwo\none\nfour\n"),
        "{log}\n{run}"
    );
}

/// Waits until the agent of a run in `workdir` has made `name`, which only root can see yet.
#[track_caller]
fn wait_for_change(workdir: &Path, name: &str) -> PathBuf {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(store) = stores(workdir).first()
            && store.join("upper").join(name).exists()
        {
            return store.clone();
        }
        assert!(Instant::now() < deadline, "{name} never came");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_the_host_changed_meanwhile_is_never_overwritten() {
    let world = World::new();
    let run = apply(&world)
        .file("both", "before")
        .file("agent-only", "before")
        .file("removed", "before")
        .script("echo agent | tee both agent-only made >/dev/null; rm removed; touch ready; sleep 2; echo DONE");
    let packet = run.directory().parent().unwrap().join("packet");
    let (running, _, work) = run.start();
    let store = wait_for_change(&work, "ready");
    assert_eq!(
        fs::metadata(&store).unwrap().permissions().mode() & 0o7777,
        0o700
    );
    // Nothing of it is there yet.
    assert_eq!(
        fs::read_to_string(work.join("agent-only")).unwrap(),
        "before"
    );
    for name in ["both", "removed", "made"] {
        fs::write(work.join(name), "host").unwrap();
    }
    let output = running.finish(Duration::from_mins(1));
    assert_eq!(output.status, Some(0), "{output}");
    for name in ["both", "removed", "made"] {
        assert_eq!(
            fs::read_to_string(work.join(name)).unwrap(),
            "host",
            "{name}"
        );
    }
    assert_eq!(
        fs::read_to_string(work.join("agent-only")).unwrap(),
        "agent\n"
    );
    let kept = world.shell(&format!(
        "tar xOf {} both made",
        packet.join("workspace-changes.tar").display()
    ));
    assert_eq!(kept.stdout, "agent\nagent\n", "{kept}");
    assert!(
        output.stderr.contains("not applied  both (a host process"),
        "{output}"
    );
}

#[test]
fn what_cannot_be_put_to_its_new_place_stays_where_it_was() {
    let world = World::new();
    let run = apply(&world);
    let work = run.directory();
    let made = world.shell(&format!(
        "cd {} && mkdir -p a/sub p b && echo 1 >a/sub/f && echo 2 >b/g && chown -R 1000:1000 .",
        work.display()
    ));
    assert!(made.success(), "{made}");
    let (running, packet, work) = run
        .command([
            "bash",
            "-c",
            "mv a p/a; echo 3 >p/a/new; mv b c; touch ready; sleep 2",
        ])
        .start();
    wait_for_change(&work, "ready");
    // The host closes the directory meanwhile.
    fs::set_permissions(work.join("p"), fs::Permissions::from_mode(0o555)).unwrap();
    let output = running.finish(Duration::from_mins(1));
    assert_eq!(output.status, Some(0), "{output}");
    assert_eq!(fs::read_to_string(work.join("a/sub/f")).unwrap(), "1\n");
    assert_eq!(fs::read_to_string(work.join("c/g")).unwrap(), "2\n");
    assert_eq!(fs::read_dir(work.join("p")).unwrap().count(), 0);
    assert_eq!(fs::metadata(work.join("p")).unwrap().mode() & 0o777, 0o555);
    let kept = world.shell(&format!(
        "tar xOf {} p/a/new",
        packet.join("workspace-changes.tar").display()
    ));
    assert_eq!(kept.stdout, "3\n", "{kept}\n{output}");
    assert_eq!(stores(&work), Vec::<PathBuf>::new());
}

#[test]
fn links_lead_nowhere() {
    let world = World::new();
    let outside = world.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "precious").unwrap();
    let run = apply(&world);
    let work = run.directory();
    for dir in ["swapped", "linked"] {
        fs::create_dir(work.join(dir)).unwrap();
        fs::write(work.join(dir).join("file"), "before").unwrap();
    }
    let (running, _, work) = run
        .script(&format!(
            "echo agent >swapped/file; rm -r linked; ln -s {} linked; touch ready; sleep 2; echo DONE",
            outside.display()
        ))
        .start();
    let store = wait_for_change(&work, "ready");
    // A host process swaps the directory for a link after the agent wrote to it.
    fs::rename(work.join("swapped"), work.join("away")).unwrap();
    symlink(&outside, work.join("swapped")).unwrap();
    // The control: whoever copies by path writes through the link.
    let through = outside.join("through");
    fs::write(&through, "precious").unwrap();
    fs::copy(
        store.join("upper/swapped/file"),
        work.join("swapped/through"),
    )
    .unwrap();
    assert_eq!(fs::read_to_string(&through).unwrap(), "agent\n");
    let output = running.finish(Duration::from_mins(1));
    assert_eq!(output.status, Some(0), "{output}");
    assert_eq!(
        fs::read_to_string(outside.join("file")).unwrap(),
        "precious"
    );
    // The agent's own link is refused, and what it stood for stays.
    assert_eq!(
        fs::read_to_string(work.join("linked/file")).unwrap(),
        "before"
    );
}

#[test]
fn killed_run_is_completed_or_undone_by_the_next() {
    const FILES: usize = 20_000;
    let world = World::new();
    // Before it applies: nothing of it is ever there.
    let run = apply(&world).script("echo 1 >new; touch ready; sleep 60");
    let (running, _, work) = run.start();
    wait_for_change(&work, "ready");
    running.signal(Signal::SIGKILL);
    running.finish(Duration::from_secs(10));
    assert_eq!(stores(&work).len(), 1);
    let next = apply(&world).workdir(&work).command(["echo", "DONE"]).run();
    assert_ran(&next);
    assert!(!work.join("new").exists(), "{next}");

    // The same by `egress doctor`.
    let run = apply(&world).script("echo 1 >new; touch ready; sleep 60");
    let (running, _, work) = run.start();
    wait_for_change(&work, "ready");
    running.signal(Signal::SIGKILL);
    running.finish(Duration::from_secs(10));
    let doctor = ["doctor".as_ref(), "--repair".as_ref(), "--workdir".as_ref()];
    let doctor = world.tool(doctor.into_iter().chain([work.as_os_str()]));
    assert!(doctor.stdout.contains("recovered"), "{doctor}");
    assert_eq!(stores(&work), Vec::<PathBuf>::new(), "{doctor}");
    assert!(!work.join("new").exists());

    // While it applies.
    let run = apply(&world).script(&format!(
        "python3 -c 'import os
os.mkdir(\"d\")
for f in range({FILES}): open(f\"d/f{{f}}\", \"w\").write(str(f))'"
    ));
    let work = run.directory();
    fs::create_dir(work.join("old")).unwrap();
    let (running, _, work) = run.start();
    let deadline = Instant::now() + Duration::from_mins(1);
    while !work.join("d").exists() {
        assert!(Instant::now() < deadline, "nothing was applied");
        thread::sleep(Duration::from_micros(200));
    }
    running.signal(Signal::SIGKILL);
    let killed = running.finish(Duration::from_secs(10));
    assert_eq!(killed.signal, Some(9), "{killed}");
    let half = fs::read_dir(work.join("d")).unwrap().count();
    assert!(half < FILES, "it was killed too late to show anything");
    let next = apply(&world).workdir(&work).command(["echo", "DONE"]).run();
    assert_ran(&next);
    assert!(next.stderr.contains("recovered"), "{next}");
    assert_eq!(fs::read_dir(work.join("d")).unwrap().count(), FILES);
    assert_eq!(fs::read_to_string(work.join("d/f123")).unwrap(), "123");
}

#[test]
fn workspaces_under_root_under_tmp_and_on_tmpfs() {
    let world = World::new();
    for place in ["/root", "/tmp", "/dev/shm"] {
        let dir = tempfile::tempdir_in(place).unwrap();
        let work = dir.path().join("work");
        fs::create_dir(&work).unwrap();
        fs::set_permissions(&work, fs::Permissions::from_mode(0o750)).unwrap();
        fs::write(work.join("old"), "1").unwrap();
        let run = apply(&world)
            .workdir(&work)
            .script("rm old; mkdir d; echo 2 >d/new; mv d e; ls -a ..; echo DONE")
            .run();
        assert_ran(&run);
        assert_eq!(
            fs::read_to_string(work.join("e/new")).unwrap(),
            "2\n",
            "{place}"
        );
        assert!(!work.join("old").exists(), "{place}");
    }
}

#[test]
fn workspace_that_is_a_mount_point_is_named_with_the_other_modes() {
    let world = World::new();
    let work = world.dir().join("mount");
    fs::create_dir(&work).unwrap();
    let mounted = world.shell(&format!(
        "mount -t tmpfs none {0} && cd {0} && {1} run --workspace apply --workdir {0} --packet-dir ../p -- true",
        work.display(),
        egress_tests::binary().display()
    ));
    assert_eq!(mounted.status, Some(125), "{mounted}");
    assert!(mounted.stderr.contains("mount point"), "{mounted}");
    assert!(mounted.stderr.contains("--workspace direct"), "{mounted}");
}

#[test]
fn copy_is_worked_on_and_thrown_away() {
    let world = World::new();
    let run = world.egress().allow(&[]).arg("--workspace").arg("copy");
    let work = run.directory();
    let made = world.shell(&format!(
        "cd {} && mkdir -p d/e && echo 1 >d/e/f && ln -s e/f d/l && mkfifo pipe && truncate -s 2G sparse &&
         chown -R 1000:1000 . && chmod 700 d",
        work.display()
    ));
    assert!(made.success(), "{made}");
    let run = run
        .script(
            "set -e; stat -c '%U %a %s' d sparse; cat d/l; test ! -e pipe; echo 2 >>d/e/f; rm -r sparse
             ls; echo DONE",
        )
        .run();
    assert_ran(&run);
    let told = format!(
        "pipelock-agent 700 4096\npipelock-agent 644 {}\n1\n",
        2_u64 << 30
    );
    assert!(run.stdout.starts_with(&told), "{run}");
    assert_eq!(fs::read_to_string(work.join("d/e/f")).unwrap(), "1\n");
    assert!(work.join("sparse").exists());
    assert_eq!(run.json("boundary.json")["workspace"]["mode"], "copy");
    assert!(!run.packet.join("changes.json").exists());
}

#[test]
fn discard_and_read_only_leave_the_workspace_alone() {
    let world = World::new();
    let run = world.egress().allow(&[]).arg("--workspace").arg("discard");
    let work = run.directory();
    fs::create_dir(work.join("d")).unwrap();
    fs::write(work.join("d/old"), "1").unwrap();
    let script = "rm d/old; echo 2 >d/new; mkdir e; echo DONE";
    let run = run.script(script);
    let before = listing(&work);
    let run = run.run();
    assert_ran(&run);
    assert_eq!(listing(&work), before);
    assert_eq!(
        outcome(&run, "d/new"),
        ("discarded".into(), "whole_run".into())
    );
    let tar = world.shell(&format!(
        "tar tf {}",
        run.packet.join("workspace-changes.tar").display()
    ));
    assert_eq!(tar.stdout, "d/new\ne\n", "{tar}");

    let run = world
        .egress()
        .allow(&[])
        .arg("--workspace")
        .arg("read-only");
    let work = run.directory();
    let run = run.script("cat agent.sh >/dev/null && ! touch x 2>/dev/null && ! rm agent.sh 2>/dev/null && echo DONE");
    let before = listing(&work);
    let run = run.run();
    assert_ran(&run);
    assert_eq!(listing(&work), before);
    // The control: with the directory itself both succeed.
    let run = world.egress().allow(&[]).arg("--workspace").arg("direct");
    let run = run.script("touch x && rm agent.sh && echo DONE").run();
    assert_ran(&run);
    assert!(run.workdir.join("x").exists() && !run.workdir.join("agent.sh").exists());
}
