//! Repositories that the command creates in the workspace: they arrive usable, with a configuration that runs nothing.
//! `rules.rs` contains the attempts to plant code in such repositories.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use egress_tests::World;
use egress_tests::changes::{apply, assert_ran, assert_refused, changes, outcome};
use sha2::{Digest as _, Sha256};

/// Creates a repository, a clone of it with another commit, and a repository with longer object ids.
const MADE: &str = "set -e
    export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.test GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.test
    git init -q -b main made; cd made; echo 1 >file; git add file; git commit -qm one; cd ..
    git clone -q made copy; cd copy; git switch -qc topic; echo 2 >file; git commit -qam two; git gc -q
    git remote set-url origin https://git.example.test/owner/name.git; git config core.pager 'touch MARK; cat'
    echo 'touch MARK' >.git/hooks/post-merge; touch .git/hooks/mine.sample
    git push -q ../made topic:pushed; git branch -q --set-upstream-to=origin/main; cd ..
    git init -q -b main --object-format=sha256 long; cd long; echo 3 >file; git add file; git commit -qm three
    echo DONE";

/// Claims: new-repository*
#[test]
fn cloned_and_created_repositories_arrive_usable() {
    let world = World::new();
    let run = apply(&world);
    let work = run.directory();
    let made = world.shell(&format!("chown 1000:1000 {}", work.display()));
    assert!(made.success(), "{made}");
    let run = run.script(MADE).run();
    assert_ran(&run);
    for (name, subject, remote) in [
        ("made", "one\n", ""),
        ("copy", "two\n", "https://git.example.test/owner/name.git\n"),
        ("long", "three\n", ""),
    ] {
        let look = world.shell(&as_owner(&format!(
            "cd {} && git fsck --strict >/dev/null 2>&1 && git status --porcelain && git log -1 --format=%s &&
             {{ git remote get-url origin 2>/dev/null || true; }}",
            work.join(name).display()
        )));
        assert_eq!(
            look.stdout,
            format!("{subject}{remote}"),
            "{name}: {look}\n{run}"
        );
        // The owner of the workspace continues to work in the repository.
        let on = world.shell(&as_owner(&format!(
            "cd {} && echo 4 >>file && git -c user.name=a -c user.email=a@example.test commit -qam more &&
             git log -1 --format=%s",
            work.join(name).display()
        )));
        assert_eq!(on.stdout, "more\n", "{name}: {on}\n{run}");
    }
    let upstream = world.shell(&as_owner(&format!(
        "git -C {} rev-parse --abbrev-ref topic@{{upstream}}",
        work.join("copy").display()
    )));
    assert_eq!(upstream.stdout, "origin/main\n", "{upstream}\n{run}");
    // The list of changes states what was applied.
    let config = work.join("copy/.git/config");
    let text = fs::read_to_string(&config).unwrap();
    assert!(!text.contains("pager"), "{text}");
    let all = changes(&run);
    let change = all
        .iter()
        .find(|change| change["path"] == "copy/.git/config")
        .unwrap();
    assert_eq!(change["reduced"], true, "{change}");
    assert_eq!(
        change["sha256"],
        hex::encode(Sha256::digest(&text)),
        "{change}"
    );
    assert_eq!(change["size"], text.len(), "{change}");
    assert_eq!(fs::metadata(&config).unwrap().uid(), 1000);
    // A hook is held back. Files that `git init` copies from its templates are neither applied nor listed.
    assert_refused(&run, "copy/.git/hooks", "git_directory");
    assert_eq!(outcome(&run, "copy/.git/hooks/post-merge").0, "refused");
    assert!(
        run.stderr
            .contains("(git hooks and other files that git may run)"),
        "{run}"
    );
    for change in &all {
        let path = change["path"].as_str().unwrap();
        let is_template = path.ends_with(".sample")
            || ["branches", "description"]
                .iter()
                .any(|name| path.ends_with(&format!(".git/{name}")))
            || ["made", "long"].iter().any(|name| {
                ["hooks", "info", "info/exclude"]
                    .iter()
                    .any(|end| path == format!("{name}/.git/{end}"))
            });
        assert!(!is_template, "{change}");
    }
    for name in ["hooks", "branches", "description"] {
        assert!(!work.join("made/.git").join(name).exists(), "{name}: {run}");
    }
    assert!(
        run.stderr.contains("reduced      copy/.git/config"),
        "{run}"
    );
    let verified = world.tool([
        "verify".as_ref(),
        run.packet.as_os_str(),
        "--allow-unpinned".as_ref(),
    ]);
    assert!(verified.success(), "{verified}\n{run}");
}

/// Runs a script as the owner of the workspace, because git trusts a repository only if the user owns it.
fn as_owner(script: &str) -> String {
    format!(
        "setpriv --reuid=1000 --regid=1000 --clear-groups env HOME=/nonexistent bash -c '{script}'"
    )
}

/// Claims: new-repository
#[test]
fn workspace_becomes_a_repository_only_if_it_is_in_none() {
    const ATTEMPT: &str = "git init -q -b other .; echo DONE";
    let world = World::new();
    let branch = |dir: &Path| world.shell(&format!("git -C {} symbolic-ref HEAD", dir.display()));
    let run = apply(&world).script(ATTEMPT).run();
    assert_ran(&run);
    assert_eq!(branch(&run.workdir).stdout, "refs/heads/other\n", "{run}");

    // The control: a repository in a directory of the host's repository hides that one.
    let lay = |dir: &Path| {
        let made = world.shell(&format!(
            "mkdir -p {0}/pkg && git init -q -b host {0} && echo 1 >{0}/pkg/f",
            dir.display()
        ));
        assert!(made.success(), "{made}");
    };
    let by_hand = world.dir().join("by-hand");
    lay(&by_hand);
    let pkg = by_hand.join("pkg");
    assert_eq!(branch(&pkg).stdout, "refs/heads/host\n");
    let control = world.shell(&format!("cd {} && {ATTEMPT}", pkg.display()));
    assert!(control.success(), "{control}");
    assert_eq!(branch(&pkg).stdout, "refs/heads/other\n");

    let outer = world.dir().join("outer");
    for (workdir, attempt) in [
        (outer.join("pkg"), ATTEMPT.to_owned()),
        (outer.clone(), format!("cd pkg; {ATTEMPT}")),
        (
            outer.clone(),
            format!("mv pkg moved; mkdir pkg; cd pkg; {ATTEMPT}"),
        ),
        (
            outer.clone(),
            format!("rm -r pkg; mkdir -p pkg/below; cd pkg/below; {ATTEMPT}"),
        ),
    ] {
        lay(&outer);
        let run = apply(&world)
            .workdir(&workdir)
            .packet_dir(&world.dir().join("packet"))
            .command(["bash", "-c", &attempt])
            .run();
        assert_ran(&run);
        for dir in [outer.join("pkg"), outer.join("pkg/below"), outer.clone()] {
            if dir.exists() {
                assert_eq!(branch(&dir).stdout, "refs/heads/host\n", "{attempt}: {run}");
            }
        }
        let refused = changes(&run)
            .iter()
            .any(|change| change["reason"] == "new_git_directory");
        assert!(refused, "{attempt}: {run}");
        fs::remove_dir_all(&outer).unwrap();
    }
    // In a directory that the host does not have, nothing is hidden.
    lay(&outer);
    let run = apply(&world)
        .workdir(&outer)
        .packet_dir(&world.dir().join("packet"))
        .command(["bash", "-c", &format!("mkdir new; cd new; {ATTEMPT}")])
        .run();
    assert_ran(&run);
    assert_eq!(
        branch(&outer.join("new")).stdout,
        "refs/heads/other\n",
        "{run}"
    );
}

/// Claims: new-repository, read-git-index
#[test]
fn index_of_a_new_repository_names_nothing_outside() {
    // The index has an entry in the hooks. A git that trusts its index writes it there.
    const ATTEMPT: &str = "git init -q new; cd new; echo '#!/bin/sh' >hook; git add hook
        python3 - <<'END'
import hashlib
index = open('.git/index', 'rb').read()[:-20]
name = b'.git/hooks/post-checkout'
start = 12
flags = start + 60
entry = index[start:flags] + len(name).to_bytes(2, 'big') + name
entry += bytes(8 - (62 + len(name)) % 8)
index = index[:start] + entry
open('.git/index', 'wb').write(index + hashlib.sha1(index).digest())
END
        echo DONE";
    let world = World::new();
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    let control = world.shell(&format!("cd {} && {ATTEMPT}", by_hand.display()));
    assert!(control.success(), "{control}");
    let names = world.shell(&format!(
        "grep -c .git/hooks/post-checkout {}/new/.git/index",
        by_hand.display()
    ));
    assert_eq!(names.stdout, "1\n", "{names}");
    let run = apply(&world).script(ATTEMPT).run();
    assert_ran(&run);
    let refused = ("refused".to_owned(), "git_index".to_owned());
    assert_eq!(outcome(&run, "new/.git/index"), refused, "{run}");
    assert!(!run.workdir.join("new/.git/index").exists(), "{run}");
}
