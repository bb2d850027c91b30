//! Changes of the command in a workspace that the host changes at the same time, and in a run that is killed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use egress_tests::World;
use egress_tests::changes::{apply, assert_ran, stores, wait_for_change};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Claims: host-version
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
    // The workspace does not have the changes yet.
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

/// Claims: removed-by-host
#[test]
fn what_the_host_took_away_meanwhile_does_not_come_back() {
    let world = World::new();
    let run = apply(&world);
    let work = run.directory();
    fs::create_dir(work.join("dir")).unwrap();
    let names = [
        "stays", "removed", "moved", "renamed", "both", "held", "dir/a", "dir/b",
    ];
    for name in names {
        fs::write(work.join(name), "before\n").unwrap();
    }
    let (running, packet, work) = run
        .script(
            "for f in stays removed moved renamed both held dir/a; do echo agent >>$f; done
             mv renamed new-name; mv both new-both; echo new >dir/new; touch ready; sleep 2; echo DONE",
        )
        .start();
    wait_for_change(&work, "ready");
    // A removed name stays removed, even if a process still has the file open.
    let held = fs::File::open(work.join("held")).unwrap();
    for name in ["removed", "both", "held"] {
        fs::remove_file(work.join(name)).unwrap();
    }
    fs::rename(work.join("moved"), work.join("elsewhere")).unwrap();
    fs::remove_dir_all(work.join("dir")).unwrap();
    let output = running.finish(Duration::from_mins(1));
    drop(held);
    assert_eq!(output.status, Some(0), "{output}");
    assert!(output.stdout.ends_with("DONE\n"), "{output}");
    assert_eq!(stores(&work), Vec::<PathBuf>::new(), "{output}");
    // The control: if the host did not change a file, the command's change is applied, under the old or the new name.
    let read = |name: &str| fs::read_to_string(work.join(name)).unwrap();
    assert_eq!(read("stays"), "before\nagent\n", "{output}");
    assert_eq!(read("new-name"), "before\nagent\n", "{output}");
    assert!(!work.join("renamed").exists());
    assert_eq!(read("elsewhere"), "before\n", "{output}");
    let text = fs::read_to_string(packet.join("changes.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let reason = |name: &str| {
        let mut changes = document["changes"].as_array().unwrap().iter();
        let change = changes.find(|change| change["path"] == name);
        change.map(|change| (change["outcome"].clone(), change["reason"].clone()))
    };
    for name in ["removed", "moved", "held", "new-both", "dir"] {
        assert!(!work.join(name).exists(), "{name}: {output}");
        let conflict = Some(("conflict".into(), "changed_meanwhile".into()));
        assert_eq!(reason(name), conflict, "{name}: {output}");
    }
    for name in ["dir/a", "dir/new"] {
        let held = Some(("refused".into(), "held_back".into()));
        assert_eq!(reason(name), held, "{name}: {output}");
    }
    let kept = world.shell(&format!(
        "tar xOf {} removed moved held new-both dir/a dir/new",
        packet.join("workspace-changes.tar").display()
    ));
    assert_eq!(kept.stdout.matches("before\nagent\n").count(), 5, "{kept}");
    assert!(kept.stdout.contains("new\n"), "{kept}");
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
    // Meanwhile, the host makes the directory read-only.
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

/// Claims: changes-without-links
#[test]
fn links_are_not_followed() {
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
    // The control: a copy by path writes through the link.
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
    // The command's own link is not applied, and the directory that it would have replaced remains.
    assert_eq!(
        fs::read_to_string(work.join("linked/file")).unwrap(),
        "before"
    );
}

/// Claims: changes-completed
#[test]
fn killed_run_is_completed_or_undone_by_the_next() {
    const FILES: usize = 20_000;
    let world = World::new();
    // The supervisor is killed before it applies changes, so no change is ever applied.
    let run = apply(&world).script("echo 1 >new; touch ready; sleep 60");
    let (running, _, work) = run.start();
    wait_for_change(&work, "ready");
    running.signal(Signal::SIGKILL);
    running.finish(Duration::from_secs(10));
    assert_eq!(stores(&work).len(), 1);
    let next = apply(&world).workdir(&work).command(["echo", "DONE"]).run();
    assert_ran(&next);
    assert!(!work.join("new").exists(), "{next}");

    // `egress doctor --repair` does the same as the next run.
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

    // The supervisor is killed while it applies changes.
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

/// Claims: read-stores*, store-mark*
#[test]
fn killed_run_inside_a_mount_point_is_completed_and_a_forged_one_is_not() {
    // Creates the store that a run leaves behind if it is killed while it applies changes. With `marked`, the store has
    // the attribute that only root can set.
    const LEAVE: &str = r"
import json, os, sys
work, marked = sys.argv[1], sys.argv[2] == 'marked'
store = work + '/.egress-ab'
for name in ('upper/.github', 'work', 'shown', 'moved', 'copy'):
    os.makedirs(store + '/' + name)
os.chmod(store, 0o700)
open(store + '/upper/.github/f', 'w').write('agent')
about = {'workspace': '', 'inode': os.stat(work).st_ino, 'uid': 0, 'gid': 0, 'agent': 7, 'began': [0, 0]}
change = {'path': '.github', 'change': 'created', 'kind': 'directory', 'outcome': 'applied'}
steps = [{'of': 0, 'step': {'place': {'path': '.github'}}}]
json.dump({'changes': [change], 'steps': steps}, open(store + '/plan.json', 'w'))
os.setxattr(store, ('trusted' if marked else 'user') + '.egress.store', json.dumps(about).encode())
";
    let world = World::new();
    let file = world.dir().join("leave.py");
    fs::write(&file, LEAVE).unwrap();
    let work = world.dir().join("mount");
    fs::create_dir(&work).unwrap();
    for (kind, listed) in [("marked", ".github\n"), ("forged", ".egress-ab\n")] {
        let made = world.shell(&format!(
            "mount -t tmpfs none {0} && python3 {1} {0} {kind}",
            work.display(),
            file.display()
        ));
        assert!(made.success(), "{made}");
        let next = apply(&world).workdir(&work).command(["echo", "DONE"]).run();
        assert_ran(&next);
        let left = world.shell(&format!("ls -A {}", work.display()));
        assert_eq!(left.stdout, listed, "{kind}: {next}");
    }
}

/// Claims: read-copy
#[test]
fn link_that_comes_while_the_workspace_is_copied_is_not_written_through() {
    let world = World::new();
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    for (what, swap, status) in [
        (
            "file",
            "mv config was && ln -s $KEPT/config config",
            Some(0),
        ),
        (
            "directory",
            "mv ../.git ../was && ln -s $KEPT ../.git",
            Some(125),
        ),
    ] {
        let kept = world.dir().join(what);
        fs::create_dir(&kept).unwrap();
        let lay = format!(
            "git init -q . && git config user.token s3cret && chown -R 1000:1000 . && echo kept >{0}/config && chmod 600 {0}/config",
            kept.display()
        );
        let swap = format!(
            "cd .git && KEPT={} setpriv --reuid 1000 --regid 1000 --clear-groups sh -c '! echo owned >$KEPT/config && {swap}'",
            kept.display()
        );
        // The control: a write to a path that was resolved before follows the new link.
        fs::create_dir(by_hand.join(what)).unwrap();
        let control = world.shell(&format!(
            "cd {} && {lay} && ({swap}) && echo owned >.git/config; cat {}/config",
            by_hand.join(what).display(),
            kept.display()
        ));
        assert_eq!(control.stdout, "owned\n", "{control}");

        let run = world.egress().allow(&[]).arg("--workspace").arg("copy");
        let work = run.directory();
        let made = world.shell(&format!(
            "cd {} && mkdir .a && for n in 1 2 3 4; do head -c 100M /dev/zero | tr '\\0' x >.a/$n; done; {lay}",
            work.display()
        ));
        assert!(made.success(), "{made}");
        let (running, _, work) = run.command(["cat", ".git/config"]).start();
        let deadline = Instant::now() + Duration::from_secs(30);
        let store = loop {
            if let Some(store) = stores(&work).pop()
                && store.join("copy/.a/1").exists()
            {
                break store;
            }
            assert!(Instant::now() < deadline, "nothing was copied");
            thread::sleep(Duration::from_millis(1));
        };
        let swapped = world.shell(&format!("cd {} && {swap}", work.display()));
        assert!(swapped.success(), "{swapped}");
        assert!(!store.join("copy/.git").exists(), "it came too late");
        let output = running.finish(Duration::from_mins(1));
        assert_eq!(output.status, status, "{what}: {output}");
        assert!(!output.stdout.contains("s3cret"), "{what}: {output}");
        let text = fs::read_to_string(kept.join("config")).unwrap();
        assert_eq!(text, "kept\n", "{what}: {output}");
        assert_eq!(fs::metadata(kept.join("config")).unwrap().uid(), 0);
    }
}
