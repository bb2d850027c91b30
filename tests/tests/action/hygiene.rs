//! Checks the action and the workflows with published linters and with rules of this project.
use std::fs;
use std::path::PathBuf;

use egress_tests::World;

use egress_tests::workflow::{project, tool};

fn files(dir: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(project().join(dir)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yml"));
    files.sort();
    assert!(!files.is_empty(), "{dir} has no workflow");
    files
}

fn workflows() -> Vec<PathBuf> {
    [".github/workflows", "tests/workflows", "examples/github"]
        .map(files)
        .concat()
}

#[test]
fn actionlint_finds_nothing() {
    let world = World::new();
    let mut words = vec![tool("actionlint").display().to_string(), "-no-color".into()];
    words.extend(workflows().iter().map(|path| path.display().to_string()));
    let clean = world.runner(&words);
    assert!(clean.success(), "{clean}");
    // The control: the linter reports a workflow with a known fault.
    let bad = world.dir().join("bad.yml");
    fs::write(&bad, "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo ${{ github.event.issue.title }}\n").unwrap();
    words = vec![
        tool("actionlint").display().to_string(),
        bad.display().to_string(),
    ];
    assert!(!world.runner(&words).success());
}

#[test]
fn zizmor_finds_nothing() {
    let world = World::new();
    let mut words = vec![
        tool("zizmor").display().to_string(),
        "--offline".into(),
        "--no-progress".into(),
        format!(
            "--config={}",
            project().join(".github/zizmor.yml").display()
        ),
    ];
    let clean = words.clone();
    let project = project();
    for path in ["action.yml", "verify/action.yml"] {
        words.push(project.join(path).display().to_string());
    }
    words.extend(workflows().iter().map(|path| path.display().to_string()));
    let found = world.runner(&words);
    assert!(found.success(), "{found}");
    let bad = world.dir().join("bad.yml");
    fs::write(&bad, "on: pull_request_target\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n      - run: echo ${{ github.event.issue.title }}\n").unwrap();
    words = clean;
    words.push(bad.display().to_string());
    assert!(!world.runner(&words).success());
}

#[test]
fn actions_are_pinned_and_permissions_closed() {
    for path in workflows() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("\npermissions: {}\n"),
            "{}: permissions",
            path.display()
        );
        for line in text.lines().filter(|line| line.contains("uses: ")) {
            let name = line.split("uses: ").nth(1).unwrap();
            if name.starts_with("./") {
                continue;
            }
            let commit = name.split(['@', ' ']).nth(1).unwrap_or_default();
            let is_commit =
                commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(is_commit, "{}: {line}", path.display());
        }
    }
}

#[test]
fn no_expression_stands_in_a_script() {
    for path in ["action.yml", "verify/action.yml"] {
        let text = fs::read_to_string(project().join(path)).unwrap();
        assert!(
            text.contains("shell: bash --noprofile --norc -euo pipefail {0}"),
            "{path}"
        );
        let script = text.split("run: ").nth(1).unwrap();
        assert!(!script.contains("${{"), "{path}");
        assert!(
            !text.contains("GITHUB_ENV") && !text.contains("GITHUB_PATH"),
            "{path}"
        );
    }
    let script = fs::read_to_string(project().join("scripts/action.sh")).unwrap();
    for name in ["GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "eval"] {
        assert!(!script.contains(name), "{name}");
    }
}
