//! Changes of the command that are never applied. Without the rules, each attempt takes effect.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use egress_tests::World;
use egress_tests::changes::{apply, assert_ran, assert_refused, changes, outcome};

/// Claims: read-changes*, changes-judged, privileged-bits, crate-workspace*
#[test]
fn what_is_never_applied() {
    const ATTEMPT: &str = "mkdir -p .github/workflows kept/in out; echo 1 >.github/workflows/x.yml
        mkfifo pipe; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'
        cp /bin/true tool; chmod 4755 tool; ln -s /etc/passwd outside; ln -s ../x out/up
        echo 2 >kept/in/file; echo 3 >fine; echo DONE";
    let world = World::new();
    // The control: all changes take effect if they are made directly.
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
        run.stderr
            .contains("not applied  .github (GitHub runs files in .github)"),
        "{run}"
    );
    // Changes that were not applied are kept in the archive.
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

/// Claims: privileged-bits
#[test]
fn access_lists_are_not_applied() {
    // The attribute has version 2 and these entries: the owner, user 12345, the group, the mask, and others.
    const ATTEMPT: &str = "echo 1 >file; python3 -c 'import os, struct
entries = [(1, 6, -1), (2, 7, 12345), (4, 4, -1), (16, 7, -1), (32, 4, -1)]
text = struct.pack(\"<I\", 2) + b\"\".join(struct.pack(\"<HHi\", *one) for one in entries)
os.setxattr(\"file\", \"system.posix_acl_access\", text)
print(\"system.posix_acl_access\" in os.listxattr(\"file\"))'; echo DONE";
    const LOOK: &str = "python3 -c 'import os; print(os.listxattr(\"file\"))'";
    let world = World::new();
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    let control = world.shell(&format!("cd {} && {ATTEMPT}; {LOOK}", by_hand.display()));
    assert_eq!(
        control.stdout, "True\nDONE\n['system.posix_acl_access']\n",
        "{control}"
    );
    let run = apply(&world).script(ATTEMPT).run();
    assert_eq!(run.stdout, "True\nDONE\n", "{run}");
    assert_eq!(outcome(&run, "file").0, "applied");
    let look = world.shell(&format!("cd {} && {LOOK}", run.workdir.display()));
    assert_eq!(look.stdout, "[]\n", "{look}");
}

/// A repository with one commit, a submodule and per-worktree configuration.
const REPOSITORY: &str = "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=protocol.file.allow GIT_CONFIG_VALUE_0=always
    git init -q . && git config user.email a@example.test && git config user.name a &&
    git config extensions.worktreeConfig true && echo 1 >file.txt && git add file.txt && git commit -qm one &&
    git clone -q . ../sub-$$ && git submodule --quiet add ../sub-$$ sub 2>/dev/null || git submodule --quiet add $(realpath ../sub-$$) sub;
    mkdir tracked && echo 1 >tracked/f && git add tracked &&
    git commit -qm two && touch -d '1 hour ago' file.txt sub/file.txt && git status >/dev/null";

/// Claims: git-directories
#[test]
fn nothing_planted_runs_on_the_next_git_status() {
    // MARK is the file that the planted code creates. The last member is the directory in which `git status` runs.
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
            "hook of a new git directory",
            "mkdir new; cd new; git init -q .; echo 1 >f; git add f; touch -d '1 hour ago' f
             printf '#!/bin/sh\\ntouch MARK\\n' >.git/hooks/post-index-change
             chmod +x .git/hooks/post-index-change"
                .into(),
            "new",
        ),
        (
            "included configuration of a new git directory",
            format!(
                "mkdir new; cd new; git init -q .; git config include.path ../evil
                 printf '{FSMONITOR}' >evil"
            ),
            "new",
        ),
        (
            "worktree configuration of a new git directory",
            format!(
                "mkdir new; cd new; git init -q .; git config extensions.worktreeConfig true
                 printf '{FSMONITOR}' >.git/config.worktree"
            ),
            "new",
        ),
        (
            "common directory of a new git directory",
            format!(
                "git init -q real; printf '{FSMONITOR}' >>real/.git/config; mkdir -p new/.git
                 cp real/.git/HEAD new/.git; echo ../../real/.git >new/.git/commondir"
            ),
            "new",
        ),
        (
            "new git directory that hides the host's",
            format!("cd sub; rm .git; git init -q .; printf '{FSMONITOR}' >>.git/config"),
            "sub",
        ),
        (
            "new git directory below the host's",
            format!(
                "mv tracked old; cp -r old tracked; cd tracked; git init -q .; printf '{FSMONITOR}' >>.git/config"
            ),
            "tracked",
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
        assert!(
            mark.exists(),
            "{name}: the code does not run without the boundary either"
        );
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
            .any(|change| change["outcome"] == "refused" || change["reduced"] == true);
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

/// Claims: privileged-bits*
#[test]
fn set_user_id_bits_of_the_host_do_not_move_along() {
    const ATTEMPT: &str = "mv tool moved; mv lock kept; echo DONE";
    let world = World::new();
    let lay = |dir: &Path| {
        let made = world.shell(&format!(
            "cd {} && cp /bin/true tool && touch lock && chown -R 1000:1000 . && chmod 6755 tool && chmod 2644 lock",
            dir.display()
        ));
        assert!(made.success(), "{made}");
    };
    // A change of the owner also clears these bits, except the set-group-id bit of a file that is not executable.
    let modes = |dir: &Path| {
        ["moved", "kept"].map(|name| fs::metadata(dir.join(name)).unwrap().mode() & 0o7777)
    };
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    lay(&by_hand);
    let control = world.shell(&format!("cd {} && {ATTEMPT}", by_hand.display()));
    assert!(control.success(), "{control}");
    assert_eq!(modes(&by_hand), [0o6755, 0o2644]);

    let run = apply(&world);
    lay(&run.directory());
    let run = run.script(ATTEMPT).run();
    assert_ran(&run);
    assert_eq!(outcome(&run, "moved").0, "applied", "{run}");
    assert_eq!(modes(&run.workdir), [0o755, 0o644], "{run}");
    let all = changes(&run);
    for name in ["moved", "kept"] {
        let change = all.iter().find(|change| change["path"] == name).unwrap();
        assert_eq!(change["setid_dropped"], true, "{change}");
    }
}
