//! Configuration of agents and CI systems that makes later code run. It is protected by default.

use std::fs;
use std::path::Path;

use egress_tests::World;
use egress_tests::changes::{apply, assert_ran, assert_refused, outcome};

/// Files that the command writes.
const FILES: [&str; 17] = [
    ".buildkite/pipeline.yml",
    ".circleci/config.yml",
    ".claude/settings.json",
    ".codex/config.toml",
    ".cursor/mcp.json",
    ".devcontainer/devcontainer.json",
    ".envrc",
    ".github/workflows/x.yml",
    ".gitlab/ci.yml",
    ".gitlab-ci.yml",
    ".husky/pre-commit",
    ".mcp.json",
    ".vscode/tasks.json",
    "AGENTS.md",
    "CLAUDE.md",
    "Jenkinsfile",
    "azure-pipelines.yml",
];

/// The rule for a change of the file, and the changed entry that it names.
fn rule(file: &str) -> (&str, &str) {
    let top = file.split('/').next().unwrap_or_default();
    (
        top,
        if top == ".github" {
            "github"
        } else {
            "configuration"
        },
    )
}

/// Claims: configuration-protected*
#[test]
fn configuration_that_makes_later_code_run_is_not_applied() {
    let world = World::new();
    let attempt = FILES
        .map(|file| format!("mkdir -p $(dirname {file}); echo planted >{file}\n"))
        .concat();
    let planted = |dir: &Path| {
        let is_planted =
            |file: &&str| fs::read(dir.join(file)).is_ok_and(|text| text == b"planted\n");
        FILES
            .into_iter()
            .filter(|file| is_planted(file))
            .collect::<Vec<_>>()
    };
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    let control = world.shell(&format!("cd {} && {attempt}", by_hand.display()));
    assert!(control.success(), "{control}");
    assert_eq!(planted(&by_hand), FILES);

    // The files are new.
    let script = format!("{attempt} mkdir -p docs; echo fine >docs/AGENTS.md; echo DONE");
    let run = apply(&world).script(&script).run();
    assert_ran(&run);
    assert_eq!(planted(&run.workdir), [""; 0], "{run}");
    for file in FILES {
        let (path, reason) = rule(file);
        assert_refused(&run, path, reason);
    }
    assert_eq!(outcome(&run, "docs/AGENTS.md").0, "applied");
    let line = "not applied  .buildkite (configuration that can run code later); to apply it: --allow-change .buildkite";
    assert!(run.stderr.contains(line), "{run}");
    let boundary = run.json("boundary.json");
    let reported = boundary["workspace"]["protected_by_default"]
        .as_array()
        .unwrap();
    assert_eq!(reported.len(), FILES.len(), "{reported:?}");
    assert_eq!(
        boundary["workspace"]["allowed_changes"],
        serde_json::json!([])
    );

    // The host has the files, one of them behind a link.
    let run = apply(&world);
    let work = run.directory();
    let lay = FILES
        .map(|file| format!("mkdir -p $(dirname {file}); echo host >{file}\n"))
        .concat();
    let made = world.shell(&format!(
        "set -e; cd {}; {lay} mkdir docs; mv AGENTS.md docs/agents.txt; ln -s docs/agents.txt AGENTS.md",
        work.display()
    ));
    assert!(made.success(), "{made}");
    let run = run.script(&format!("{attempt} echo DONE")).run();
    assert_ran(&run);
    assert_eq!(planted(&work), [""; 0], "{run}");
    for file in FILES.iter().filter(|file| **file != "AGENTS.md") {
        assert_refused(&run, file, rule(file).1);
    }
    assert_refused(&run, "docs/agents.txt", "protected");
}

/// Claims: configuration-protected
#[test]
fn caller_may_allow_single_changes() {
    const ATTEMPT: &str = "mkdir -p .claude/commands; echo 1 >.claude/commands/x.md; echo 2 >.claude/commands/x.sh
        echo 3 >.claude/settings.json; echo 4 >AGENTS.md; echo 5 >CLAUDE.md; ln -s .claude/commands link; echo DONE";
    let world = World::new();
    let run = apply(&world)
        .arg("--allow-change")
        .arg("AGENTS.md")
        .arg("--allow-change")
        .arg(".claude/commands/*.md")
        .script(ATTEMPT)
        .run();
    assert_ran(&run);
    for (file, text) in [("AGENTS.md", "4\n"), (".claude/commands/x.md", "1\n")] {
        assert_eq!(
            fs::read_to_string(run.workdir.join(file)).unwrap(),
            text,
            "{run}"
        );
    }
    for file in [
        ".claude/commands/x.sh",
        ".claude/settings.json",
        "CLAUDE.md",
        "link",
    ] {
        assert_refused(&run, file, "configuration");
        assert!(!run.workdir.join(file).exists(), "{file}: {run}");
    }
    let allowed = &run.json("boundary.json")["workspace"]["allowed_changes"];
    assert_eq!(
        *allowed,
        serde_json::json!(["AGENTS.md", ".claude/commands/*.md"])
    );

    for (pattern, why) in [
        (
            "src/**",
            "nothing that it matches is protected by default; the protected names are .buildkite,",
        ),
        ("/AGENTS.md", "not a path below the workspace"),
    ] {
        let run = apply(&world)
            .arg("--allow-change")
            .arg(pattern)
            .command(["true"])
            .run();
        assert_eq!(run.status, Some(64), "{run}");
        assert!(
            run.stderr.contains(why) && run.stderr.contains(pattern),
            "{run}"
        );
    }
}
