//! A policy file in the workspace: the command can read it, git sees it as unchanged, and no command can change it.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test on the spot"
)]

use std::fs;
use std::path::{Path, PathBuf};

use egress_tests::changes::{assert_ran, changes};
use egress_tests::{Run, RunOutput, World};
use serde_json::Value;

/// Owner of the workspace.
const OWNER: u32 = 1000;
/// The place of the policy that the action uses.
const POLICY: &str = ".pipelock/ci.yaml";
const TEXT: &str = "version: 1\nmode: strict\napi_allowlist: [api.example.test]\n";
/// Git commands for all files, of which each needs the policy to be unchanged.
const GIT: &str = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.test
    export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.test HOME=/nonexistent
    set -e; umask 022
    echo 2 >file; echo new >more; git add -A; git commit -qam x
    echo 3 >file; git stash -q; cat file; git stash pop -q; cat file; git commit -qam y
    git switch -q topic; echo 4 >topic; git add -A; git commit -qm z; git pull -q --rebase . main
    git status --porcelain; git log --format=%s; git show --format= --name-only HEAD~3..HEAD | sort -u
    echo DONE";

/// Creates a repository with a committed policy in `dir`.
fn repository(world: &World, dir: &Path) {
    let made = world.shell(&format!(
        "set -e; umask 022; mkdir -p {0}/.pipelock; cd {0}; printf '%s' '{TEXT}' >{POLICY}; echo 1 >file
         git init -q -b main; git add -A
         git -c user.name=a -c user.email=a@example.test commit -qm start; git branch topic
         chown -R {OWNER}:{OWNER} .",
        dir.display()
    ));
    assert!(made.success(), "{made}");
}

fn with_policy(world: &World) -> (Run<'_>, PathBuf) {
    let run = world.egress();
    let work = run.directory();
    repository(world, &work);
    let policy = work.join(POLICY);
    (run.arg("--config").arg(&policy), policy)
}

/// Runs `script` with bash in `dir`, as the owner of the workspace and without the boundary.
fn by_hand(world: &World, dir: &Path, script: &str) -> egress_tests::Output {
    let file = world.dir().join("by-hand.sh");
    fs::write(&file, script).unwrap();
    world.shell(&format!(
        "cd {} && setpriv --reuid {OWNER} --regid {OWNER} --clear-groups bash {}",
        dir.display(),
        file.display()
    ))
}

fn outcome(run: &RunOutput, probe: &str) -> Value {
    let results = run.boundary("/probes/results");
    let mut results = results.as_array().into_iter().flatten();
    let found = results.find(|result| result["name"] == probe);
    found.map_or(Value::Null, |result| result["outcome"].clone())
}

/// Claims: run-files
#[test]
fn git_commands_for_all_files_work_with_a_policy_in_the_workspace() {
    let world = World::new();
    let control = world.dir().join("by-hand");
    repository(&world, &control);
    let control = by_hand(&world, &control, GIT);
    assert!(control.success(), "{control}");
    assert!(control.stdout.ends_with("DONE\n"), "{control}");

    let (run, policy) = with_policy(&world);
    let run = run.command(["bash", "-c", GIT]).run();
    assert_ran(&run);
    assert_eq!(run.stdout, control.stdout, "{run}");
    assert_eq!(fs::read_to_string(&policy).unwrap(), TEXT);
    let paths: Vec<Value> = changes(&run)
        .into_iter()
        .map(|change| change["path"].clone())
        .collect();
    assert!(!paths.contains(&Value::from(POLICY)), "{paths:?}");
    // The owner has the commits of the command, and nothing is left to commit.
    let look = "export HOME=/nonexistent; git status --porcelain; git log --format=%s; git fsck --strict 2>&1";
    let look = by_hand(&world, &run.workdir, look);
    assert!(look.success(), "{look}");
    assert_eq!(look.stdout.lines().next(), Some("z"), "{look}\n{run}");
    assert_eq!(outcome(&run, "config_read"), "not_applicable", "{run}");
    assert_eq!(outcome(&run, "config_write"), "denied", "{run}");
    assert_eq!(run.boundary("/probes/counts/reachable"), 0, "{run}");
}

/// Ways to change the policy. Each line is one attempt in a directory of its own, and exits with 0 if the attempt
/// succeeds.
const ATTEMPTS: [&str; 9] = [
    "echo x >>.pipelock/ci.yaml",
    "truncate -s 0 .pipelock/ci.yaml",
    "chmod 600 .pipelock/ci.yaml",
    "touch -d @1 .pipelock/ci.yaml",
    "rm -f .pipelock/ci.yaml",
    "mv .pipelock/ci.yaml moved",
    "echo x >other; mv -f other .pipelock/ci.yaml",
    "ln .pipelock/ci.yaml linked && echo x >>linked",
    "rm -rf .pipelock",
];

/// Claims: run-files
#[test]
fn policy_in_the_workspace_cannot_be_changed() {
    let world = World::new();
    for (number, attempt) in ATTEMPTS.into_iter().enumerate() {
        let control = world.dir().join(format!("by-hand{number}"));
        repository(&world, &control);
        let by_hand = by_hand(&world, &control, attempt);
        assert!(by_hand.success(), "{attempt}: {by_hand}");
    }
    for mode in ["apply", "copy", "direct", "discard", "read-only"] {
        let (run, policy) = with_policy(&world);
        let before = fs::metadata(&policy).unwrap().modified().unwrap();
        let attempts =
            ATTEMPTS.map(|attempt| format!("({attempt}) 2>/dev/null && echo 'done: {attempt}'"));
        let script = format!("cat {POLICY}\n{}\necho DONE\n", attempts.join("\n"));
        let run = run.arg("--workspace").arg(mode).script(&script).run();
        assert_eq!(run.status, Some(0), "{mode}: {run}");
        assert_eq!(run.stdout, format!("{TEXT}DONE\n"), "{mode}: {run}");
        assert_eq!(fs::read_to_string(&policy).unwrap(), TEXT, "{mode}: {run}");
        let after = fs::metadata(&policy).unwrap().modified().unwrap();
        assert_eq!(before, after, "{mode}: {run}");
        assert_eq!(
            outcome(&run, "config_read"),
            "not_applicable",
            "{mode}: {run}"
        );
        assert_eq!(outcome(&run, "config_write"), "denied", "{mode}: {run}");
    }
}

/// Prints the policy, then uses git as [`GIT`] does, with the advice of `docs/pipelock.md`.
const SKIPPING: &str = "cat .pipelock/ci.yaml 2>/dev/null && echo read
    git add -A 2>/dev/null; git commit -qam x 2>/dev/null && echo committed
    git update-index --skip-worktree .pipelock/ci.yaml";

/// Claims: run-files
#[test]
fn configuration_of_pipelock_stays_hidden_and_git_can_skip_it() {
    let world = World::new();
    let git = GIT.replacen("set -e;", &format!("{SKIPPING}; set -e;"), 1);
    let control = world.dir().join("by-hand");
    repository(&world, &control);
    let seen = by_hand(
        &world,
        &control,
        &GIT.replacen("set -e;", &format!("echo 0 >file; {SKIPPING};"), 1),
    );
    assert!(
        seen.stdout.starts_with(&format!("{TEXT}read\ncommitted\n")),
        "{seen}"
    );

    let (run, policy) = with_policy(&world);
    let run = run
        .arg("--mediator")
        .arg("pipelock")
        .arg("--pipelock-bin")
        .arg(env!("CARGO_BIN_EXE_pipelock-double"))
        .signed_with(&world.key("signer"))
        .command(["bash", "-c", &git])
        .run();
    // Neither the policy nor a commit with all files was possible before the command made git skip the policy.
    assert!(run.stdout.starts_with("2\n3\n"), "{run}");
    assert!(run.stdout.ends_with("DONE\n"), "{run}");
    assert_eq!(outcome(&run, "config_read"), "denied", "{run}");
    assert_eq!(outcome(&run, "config_write"), "denied", "{run}");
    assert_eq!(fs::read_to_string(&policy).unwrap(), TEXT);
}
