//! Inputs of the action that become options of `egress run`.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose output cannot be read has failed"
)]
use std::fs;

use egress_tests::workflow::{Runner, project};
use serde_json::{Value, json};

fn document(runner: &Runner, name: &str) -> Value {
    let text = fs::read(runner.path("home/packet").join(name)).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn boundary(runner: &Runner) -> Value {
    document(runner, "boundary.json")
}

/// Returns the outcome of the change at `path`.
fn outcome(runner: &Runner, path: &str) -> String {
    let document = document(runner, "changes.json");
    let changes = document.get("changes").and_then(Value::as_array).unwrap();
    let change = changes
        .iter()
        .find(|change| change.get("path").and_then(Value::as_str) == Some(path));
    let outcome = change.and_then(|change| change.get("outcome")?.as_str());
    outcome.unwrap_or_default().to_owned()
}

#[test]
fn inputs_reach_the_run() {
    let runner = Runner::new();
    runner.write(
        ".pipelock/ci.yaml",
        "mode: strict\napi_allowlist: [allowed.test]\n",
    );
    runner.write(
        "ci/options.sh",
        "echo \"DROPPED=${DROPPED-unset}\"; echo kept >AGENTS.md; echo 1 >kept/file; mkdir -p ~/.cache; echo 1 >~/.cache/warm\n",
    );
    runner.write("kept/file", "host\n");
    // Programs in a home that other users cannot enter.
    let made = runner.user(
        "mkdir -p ~/.local/bin && chmod 755 ~/.local ~/.local/bin && chmod 750 ~",
        &[],
    );
    assert!(made.success(), "{made}");
    let cache = runner.path("home/cache").display().to_string();
    // The control: without the inputs, the run has its defaults.
    let log = runner.step(&[("SCRIPT", "ci/options.sh"), ("FOR_THE_SCRIPT", "x")]);
    log.assert_success();
    let before = boundary(&runner);
    assert_eq!(before["allowed_ports"], json!([80, 443]));
    assert_eq!(before["allowed_unix"], json!([]));
    assert_eq!(before["view"]["cache"], Value::Null);
    assert_ne!(before["view"]["home_tools"], json!([]), "{before}");
    let outcomes = [("AGENTS.md", "refused"), ("kept/file", "applied")];
    for (path, wanted) in outcomes {
        assert_eq!(outcome(&runner, path), wanted, "{path}");
    }

    let log = runner.step(&[
        ("SCRIPT", "ci/options.sh"),
        ("FOR_THE_SCRIPT", "x"),
        ("ALLOW_PORT", "8443"),
        ("ALLOW_UNIX", "/run/docker.sock"),
        // The run could reach the container engine through this socket, so the probe of the engine finds it open.
        ("ACCEPT_RISK", "docker_socket"),
        ("BIND", "ticket=7\nteam=builds"),
        ("NONCE", "0123456789abcdef0123456789abcdef"),
        ("PROTECT", "kept"),
        ("ALLOW_CHANGE", "AGENTS.md"),
        ("ENV_DROP", "FOR_THE_SCRIPT"),
        ("ENV_PASS", "BASH_ENV"),
        ("CACHE", &cache),
        ("NO_HOME_TOOLS", "true"),
        ("REQUIRE_STRICT", "true"),
        ("MAX_PROCESSES", "200"),
        ("MAX_MEMORY", "1G"),
        ("MAX_OPEN_FILES", "500"),
        ("MAX_SCRATCH", "64M"),
        ("MAX_EVIDENCE", "32M"),
    ]);
    log.assert_success();
    let after = boundary(&runner);
    assert_eq!(after["allowed_ports"], json!([80, 443, 8443]));
    assert_eq!(after["allowed_unix"][0]["path"], "/run/docker.sock");
    assert_eq!(after["view"]["cache"], cache.as_str());
    assert_eq!(after["view"]["home_tools"], json!([]), "{after}");
    assert_eq!(after["workspace"]["allowed_changes"], json!(["AGENTS.md"]));
    let limits = &after["limits"];
    for (name, most) in [
        ("processes", 200),
        ("memory", 1 << 30),
        ("open_files", 500),
        ("scratch", 64 << 20),
        ("evidence", 32 << 20),
    ] {
        assert_eq!(limits[name]["most"], most, "{name}: {limits}");
    }
    let identity = document(&runner, "identity.json");
    assert_eq!(identity["bind"], json!({"team": "builds", "ticket": "7"}));
    assert_eq!(identity["nonce"], "0123456789abcdef0123456789abcdef");
    let dropped = after["environment"]["dropped"].as_array().unwrap();
    assert!(dropped.contains(&json!("FOR_THE_SCRIPT")), "{dropped:?}");
    for (path, wanted) in [("AGENTS.md", "applied"), ("kept/file", "refused")] {
        assert_eq!(outcome(&runner, path), wanted, "{path}");
    }
    let warm = fs::read_to_string(runner.path("home/cache/files/warm"));
    assert_eq!(warm.unwrap(), "1\n");
}

#[test]
fn audit_records_and_succeeds() {
    let runner = Runner::new();
    // The mediator of the action is pipelock by default, and an audit needs none.
    let log = runner.step(&[("MODE", "audit"), ("MEDIATOR", "pipelock")]);
    log.assert_success();
    assert!(
        log.warnings()
            .iter()
            .any(|text| text.contains("NOTHING IS DENIED")),
        "{}",
        log.output()
    );
    assert_eq!(boundary(&runner)["mode"], "audit");
}

#[test]
fn every_input_reaches_the_script_and_is_documented() {
    let read = |name: &str| fs::read_to_string(project().join(name)).unwrap();
    let (action, page, step) = (
        read("action.yml"),
        read("docs/action.md"),
        read("tests/workflows/step.yml"),
    );
    let inputs = action.split("\noutputs:").next().unwrap();
    let names: Vec<&str> = inputs
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'))
        .filter(|name| !name.starts_with(' '))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        let variable = name.to_uppercase().replace('-', "_");
        let passed = format!("        INPUT_{variable}: ${{{{ inputs.{name} }}}}\n");
        assert!(action.contains(&passed), "{name}");
        assert!(
            page.contains(&format!("`{name}`")),
            "{name} is not in docs/action.md"
        );
        assert!(
            name == "audit-packet-dir" || step.contains(&format!("          {name}: ")),
            "{name}"
        );
    }
}
