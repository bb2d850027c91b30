//! Secrets that must not leave a step, and values that must not enter it.
use std::fs;

use egress_tests::workflow::Runner;

const POLICY: &str = "mode: strict\napi_allowlist: [allowed.test]\n";

/// Claims: shown-credentials
#[test]
fn credentials_are_hidden_unless_the_workflow_shows_them() {
    let runner = Runner::new();
    runner.write(".pipelock/ci.yaml", POLICY);
    runner.write("ci/read.sh", "cat .npmrc .netrc\n");
    runner.write(".npmrc", "//r.test/:_authToken=canary-1\n");
    runner.write(".netrc", "machine a.test password canary-2\n");
    let step = |shown: &str| runner.step(&[("SCRIPT", "ci/read.sh"), ("SHOW_CREDENTIAL", shown)]);
    let hidden = step("");
    hidden.assert_success();
    assert!(!hidden.text().contains("canary"), "{}", hidden.output());
    let shown = step(".npmrc");
    shown.assert_success();
    assert!(shown.text().contains("canary-1"), "{}", shown.output());
    assert!(!shown.text().contains("canary-2"), "{}", shown.output());
}

/// Claims: action-environment*
#[test]
fn no_secret_is_in_log_packet_summary_or_annotation() {
    let runner = Runner::new();
    runner.write(".pipelock/ci.yaml", POLICY);
    let key = runner.key("signer.key");
    let boundary = runner.key("boundary.key");
    let private = [&key, &boundary].map(|path| fs::read_to_string(path).unwrap());
    let canaries = [
        ("ACTIONS_RUNTIME_TOKEN", "runtime-canary-1"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "runtime-canary-2"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "runtime-canary-3"),
        ("RUNNER_REGISTRATION_TOKEN", "runtime-canary-4"),
        ("FOR_THE_SCRIPT", "own-canary-5"),
        ("GH_TOKEN", "own-canary-6"),
        ("LD_PRELOAD_CANARY", "own-canary-7"),
    ];
    let key = key.display().to_string();
    let boundary = boundary.display().to_string();
    let mut variables = vec![
        ("SCRIPT", "ci/env.sh"),
        ("KEY", key.as_str()),
        ("BOUNDARY_KEY", boundary.as_str()),
        ("LOUD", "true"),
    ];
    variables.extend(canaries);
    let log = runner.step(&variables);
    log.assert_success();
    assert!(
        log.text().contains("egress: kernel"),
        "no debug output: {}",
        log.output()
    );
    // Variables of the workflow reach the script, and variables of the runner do not.
    for (wanted, is_there) in [
        ("own variable seen", true),
        ("no runtime token", true),
        ("inputs seen", false),
    ] {
        assert_eq!(
            log.text().contains(wanted),
            is_there,
            "{wanted}: {}",
            log.output()
        );
    }
    let mut texts = vec![("log".to_owned(), log.text().as_bytes().to_vec())];
    for entry in fs::read_dir(runner.path("home/packet")).unwrap() {
        let path = entry.unwrap().path();
        texts.push((path.display().to_string(), fs::read(&path).unwrap()));
    }
    assert!(texts.len() > 5);
    let mut secrets: Vec<String> = canaries
        .iter()
        .map(|(_, value)| (*value).to_owned())
        .collect();
    for key in &private {
        let known = secrets.len();
        let lines = key.lines();
        let secret = lines.filter(|line| line.len() > 20 && !line.contains(' '));
        secrets.extend(secret.map(str::to_owned));
        assert!(secrets.len() > known, "no line of the key to look for");
    }
    for (name, text) in texts {
        for secret in &secrets {
            let found = text
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{secret} is in {name}");
        }
    }
}

#[test]
fn commands_of_a_script_to_the_runner_have_no_effect() {
    let runner = Runner::new();
    runner.write(".pipelock/ci.yaml", POLICY);
    let key = runner.key("signer.key").display().to_string();
    let asked = |script| [("SCRIPT", script), ("KEY", key.as_str())];

    // The control: in a plain step, the runner executes the commands that the same script prints.
    let control = "name: plain\non: push\npermissions: {}\njobs:\n  plain:\n    runs-on: ubuntu-latest\n    steps:\n\
                   \x20     - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1\n\
                   \x20     - run: bash ci/poison.sh\n      - run: echo \"BAD=$BAD\"\n";
    runner.write(".github/workflows/plain.yml", control);
    let heard = runner.act("plain", None, &[]);
    heard.assert_success();
    assert!(
        heard.text().contains("BAD=from the agent"),
        "{}",
        heard.output()
    );
    assert!(
        heard
            .errors()
            .iter()
            .any(|text| text.contains("from the agent")),
        "{}",
        heard.output()
    );

    let log = runner.step(&asked("ci/poison.sh"));
    log.assert_success();
    assert!(
        log.text().contains("outcome=success BAD=\n"),
        "{}",
        log.output()
    );
    assert_eq!(log.errors(), [""; 0]);
    for text in log.warnings() {
        assert!(!text.contains("from the agent"), "{text}");
    }
    let summary = fs::read_to_string(runner.path("home/packet/summary.md")).unwrap();
    assert!(!summary.contains("from the agent"), "{summary}");
    assert!(
        summary.contains("GITHUB_ENV") && summary.contains("GITHUB_OUTPUT"),
        "{summary}"
    );
    // Text that the script chose is in code spans. Backticks in the text do not end these spans.
    let hostile: Vec<&str> = summary
        .lines()
        .filter(|line| line.contains("](evil)"))
        .collect();
    assert!(!hostile.is_empty(), "{summary}");
    for line in hostile {
        assert!(line.contains("`` `x`](evil) ``"), "{line}");
    }
}
