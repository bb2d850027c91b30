//! Programs that write many files work in a workspace whose changes are stored separately. The results of these
//! programs still work after the changes are applied.

use std::time::Duration;

use egress_tests::World;
use egress_tests::changes::{apply, assert_ran};

#[test]
fn cargo_builds_inside() {
    let world = World::new();
    let run = apply(&world)
        .script(
            "set -e; cargo init -q --vcs none --name made .; cargo build -q --offline; ./target/debug/made
             cargo build -q --offline; echo DONE",
        )
        .limit(Duration::from_mins(3))
        .run();
    assert_ran(&run);
    assert!(run.stdout.starts_with("Hello, world!\n"), "{run}");
    let after = world.shell(&format!("{}/target/debug/made", run.workdir.display()));
    assert_eq!(after.stdout, "Hello, world!\n", "{after}");
}

#[test]
fn npm_installs_a_local_package_inside() {
    let world = World::new();
    let run = apply(&world)
        .script(
            "set -e; mkdir dep
             echo '{\"name\":\"dep\",\"version\":\"1.0.0\",\"main\":\"index.js\"}' > dep/package.json
             echo 'module.exports = 42' > dep/index.js
             echo '{\"name\":\"made\",\"version\":\"1.0.0\"}' > package.json
             npm install --offline --no-audit --no-fund --silent ./dep
             node -e 'console.log(require(\"dep\"))'; echo DONE",
        )
        .limit(Duration::from_mins(2))
        .run();
    assert_ran(&run);
    assert!(run.stdout.contains("42\n"), "{run}");
    let after = world.shell(&format!(
        "cd {} && node -e 'console.log(require(\"dep\"))'",
        run.workdir.display()
    ));
    assert_eq!(after.stdout, "42\n", "{after}");
}

#[test]
fn git_worktree_that_was_there_takes_commits() {
    let world = World::new();
    let run = apply(&world);
    let work = run.directory();
    let made = world.shell(&format!(
        "set -e; cd {}; git init -q main; cd main; git config user.name n; git config user.email e@example.test
         echo 1 > a; git add a; git commit -qm one; git worktree add -q ../tree -b other 2> /dev/null",
        work.display()
    ));
    assert!(made.success(), "{made}");
    let run = run
        .script("set -e; cd tree; echo 2 > a; git commit -qam two; git log --oneline | wc -l; echo DONE")
        .run();
    assert_ran(&run);
    assert!(run.stdout.starts_with("2\n"), "{run}");
    let after = world.shell(&format!(
        "cd {}/tree && git fsck --strict 2>&1 && git log --format=%s -1 && git status --short && cat a",
        work.display()
    ));
    assert_eq!(after.stdout, "two\n2\n", "{after}\n{run}");
}
