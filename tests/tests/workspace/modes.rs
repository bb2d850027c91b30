//! The modes of `--workspace`: with `apply`, changes are stored separately during the run and applied at its end.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test on the spot"
)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::{Duration, Instant};

use egress_tests::changes::{apply, assert_ran, assert_refused, changes, listing, outcome};
use egress_tests::{RunOutput, World};
use serde_json::Value;

/// Runs `before` in two directories of an ordinary user. Then runs `script` in one directory directly, and in the other
/// directory behind the boundary. Fails unless both directories are the same at the end.
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

/// Claims: channel-changes, collect-changes, owners-exchanged*
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
    // The digest of an applied file is the digest of its content.
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

/// Claims: read-names
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

/// Claims: mount-point-store
#[test]
fn workspace_that_is_a_mount_point_keeps_its_changes_inside() {
    for (kind, owner) in [
        ("-t tmpfs none", 1000),
        ("-t tmpfs none", 0),
        ("--bind .", 0),
    ] {
        let world = World::new();
        let work = world.dir().join("mount");
        fs::create_dir(&work).unwrap();
        let made = world.shell(&format!(
            "cd {0} && mount {kind} {0} && cd {0} && mkdir -p dir/deep && echo 1 >dir/deep/f &&
             echo 2 >old && echo 3 >gone && mkdir -m 700 .egress-ab && echo 4 >.egress-ab/f &&
             chown -R {owner}:{owner} . && chown -R 5:5 .egress-ab",
            work.display()
        ));
        assert!(made.success(), "{made}");
        let run = apply(&world).workdir(&work).command([
            "bash",
            "-c",
            "ls -A; cat .egress-ab/f; echo more >>old; rm gone; mv dir moved; echo 5 >moved/deep/g
             mkdir -p .egress-cd .github; echo x | tee .egress-cd/f >.github/f
             mv .egress-ab elsewhere; echo DONE",
        ]);
        let run = run.run();
        assert_ran(&run);
        // The command does not see the store of its own run, and cannot read any other store.
        assert_eq!(run.stdout, ".egress-ab\ndir\ngone\nold\nDONE\n", "{run}");
        // The mount exists only in the world's mount namespace, so the world's shell checks it.
        let there = world.shell(&format!(
            "cd {} && ls -A && cat old moved/deep/[fg] .egress-ab/f && stat -c %u moved/deep/g",
            work.display()
        ));
        let wanted = format!(".egress-ab\nmoved\nold\n2\nmore\n1\n5\n4\n{owner}\n");
        assert_eq!(there.stdout, wanted, "{there}\n{run}");
        assert_refused(&run, ".egress-cd", "protected");
        assert_refused(&run, ".github", "github");
    }
}

/// Claims: copy-compared
#[test]
fn command_works_in_a_copy_that_is_removed() {
    let world = World::new();
    let run = world.egress().allow(&[]).arg("--workspace").arg("copy");
    let work = run.directory();
    let made = world.shell(&format!(
        "cd {} && mkdir -p d/e && echo 1 >d/e/f && ln -s e/f d/l && mkfifo pipe && truncate -s 2G sparse &&
         mkdir m && echo 3 >m/g && echo 4 >same && echo 5 >d/left &&
         chown -R 1000:1000 . && chmod 700 d",
        work.display()
    ));
    assert!(made.success(), "{made}");
    let run = run
        .script(
            "set -e; stat -c '%U %a %s' d sparse; cat d/l; test ! -e pipe; echo 2 >>d/e/f; rm -r sparse
             printf x >new; chmod 640 new; mv m moved; chmod $(stat -c %a same) same; ls; echo DONE",
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
    // Files that were only opened, or not touched at all, are not changes.
    let listed: Vec<_> = changes(&run)
        .iter()
        .map(|change| {
            let word = |name: &str| change[name].as_str().unwrap_or("-").to_owned();
            assert_eq!(word("outcome"), "discarded", "{change}");
            let digest = word("sha256");
            let digest = digest.get(..8).unwrap_or(&digest);
            format!(
                "{} {} {} {digest}",
                word("path"),
                word("change"),
                word("mode")
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            "d/e/f modified 0644 a6e2b7a0",
            "moved created 0755 -",
            "moved/g created 0644 1121cfcc",
            "new created 0640 2d711642",
            "m deleted - -",
            "sparse deleted - -",
        ],
        "{run}"
    );
}

/// Claims: changes-of-any-size
#[test]
fn large_files_and_larger_holes_take_no_time() {
    let world = World::new();
    let run = apply(&world).script(
        "fallocate -l 2G large; truncate -s 4T hollow; mkdir .github; truncate -s 4T .github/hollow
         head -c 256M /dev/urandom >full; sha256sum full; stat -c %i large hollow full; echo DONE",
    );
    let started = Instant::now();
    let run = run.limit(Duration::from_mins(2)).run();
    assert_ran(&run);
    let took = started.elapsed();
    assert!(took < Duration::from_mins(1), "{took:?}");
    let all = changes(&run);
    let digest = |path: &str| {
        let change = all.iter().find(|change| change["path"] == path).unwrap();
        change["sha256"].as_str().map(str::to_owned)
    };
    assert!(run.stdout.starts_with(&digest("full").unwrap()), "{run}");
    assert!(digest("large").is_some(), "{all:#?}");
    assert_eq!(digest("hollow"), None);
    // These are the same files that the command wrote, not copies.
    for (name, inode) in ["large", "hollow", "full"]
        .iter()
        .zip(run.stdout.lines().skip(1))
    {
        let is = fs::metadata(run.workdir.join(name)).unwrap().ino();
        assert_eq!(is.to_string(), inode, "{name}: {run}");
    }
    assert_eq!(
        fs::metadata(run.workdir.join("hollow")).unwrap().len(),
        4 << 40
    );
    assert_refused(&run, ".github/hollow", "held_back");
    let kept = fs::metadata(run.packet.join("workspace-changes.tar")).unwrap();
    assert!(kept.len() < 1 << 20, "{} bytes", kept.len());
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
    // The control: with `--workspace direct`, both changes succeed.
    let run = world.egress().allow(&[]).arg("--workspace").arg("direct");
    let run = run.script("touch x && rm agent.sh && echo DONE").run();
    assert_ran(&run);
    assert!(run.workdir.join("x").exists() && !run.workdir.join("agent.sh").exists());
}
