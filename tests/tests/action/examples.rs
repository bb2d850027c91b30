//! Runs the examples for other CI systems and the commands of the reviewer's guide exactly as their pages show them.
use std::fs;

use egress_tests::evidence::Reference;
use egress_tests::workflow::{Runner, project};
use egress_tests::{World, binary};

const POLICY: &str = "mode: strict\napi_allowlist: [allowed.test]\n";

/// Returns the lines of a page between its two marks, as the shell receives them.
fn marked(path: &str) -> String {
    let text = fs::read_to_string(project().join(path)).unwrap();
    let (_, rest) = text.split_once("# begin\n").unwrap();
    let (script, _) = rest.split_once("# end\n").unwrap();
    // Buildkite replaces `$$` with one dollar sign before the shell reads the script.
    script.replace("$$", "$")
}

/// Returns the variables that a script preserves through sudo, as its CI system sets them.
fn of_system(script: &str) -> Vec<(&str, String)> {
    let (_, rest) = script.split_once("--preserve-env=").unwrap();
    let (list, _) = rest.split_once(char::is_whitespace).unwrap();
    let value = |name: &str| match name {
        "CI" | "GITLAB_CI" | "BUILDKITE" => String::from("true"),
        _ => format!("{} of this run", name.to_ascii_lowercase()),
    };
    list.split(',').map(|name| (name, value(name))).collect()
}

/// Returns a machine with a policy, a script, a key, and the binary on PATH.
fn machine() -> (Runner, Vec<(&'static str, String)>) {
    let runner = Runner::new();
    let key = runner.key("signer.key").display().to_string();
    let boundary = runner.key("boundary.key").display().to_string();
    runner.write(".egress/policy.yaml", POLICY);
    runner.write(
        "ci/agent.sh",
        "curl -fsS http://allowed.test/\ncurl -s http://denied.test/\nexit 0\n",
    );
    let path = format!(
        "{}:/usr/sbin:/usr/bin:/sbin:/bin",
        runner.path("bin").display()
    );
    let variables = vec![
        ("PATH", path),
        ("SIGNER_KEY", key.clone()),
        ("SIGNER_PUBLIC_KEY", format!("{key}.pub")),
        ("BOUNDARY_KEY", boundary.clone()),
        ("BOUNDARY_PUBLIC_KEY", format!("{boundary}.pub")),
    ];
    (runner, variables)
}

#[test]
fn demo_shows_a_denial_and_rejects_the_changed_packet() {
    let world = World::new();
    let demo = project().join("examples/demo/demo.sh");
    let shown = world.runner([demo, binary(), world.dir().join("demo")]);
    assert!(shown.success(), "{shown}");
    let (without, rest) = shown.stdout.split_once("== the policy").unwrap();
    let (behind, rest) = rest.split_once("== egress run reports").unwrap();
    let (report, changed) = rest.split_once("== egress verify, on a copy").unwrap();
    for reached in ["hello from denied.test", "reached: SSH-2.0-demo"] {
        assert!(without.contains(reached), "{shown}");
        assert!(!behind.contains(reached), "{shown}");
    }
    assert!(behind.contains("hello from allowed.test"), "{shown}");
    for wanted in ["VALID, end proven", "boundary:    kernel_enforced"] {
        assert!(report.contains(wanted), "{shown}");
    }
    for wanted in ["verdict:     INVALID\n", "[receipt.signature]"] {
        assert!(changed.contains(wanted), "{wanted}: {shown}");
    }
}

#[test]
fn examples_of_other_systems_run() {
    for (path, provider, [repository, commit, run_id]) in [
        (
            "gitlab/gitlab-ci.yml",
            "gitlab",
            ["CI_PROJECT_PATH", "CI_COMMIT_SHA", "CI_PIPELINE_ID"],
        ),
        (
            "buildkite/pipeline.yml",
            "buildkite",
            ["BUILDKITE_REPO", "BUILDKITE_COMMIT", "BUILDKITE_BUILD_ID"],
        ),
        (
            "jenkins/Jenkinsfile",
            "jenkins",
            ["GIT_URL", "GIT_COMMIT", "BUILD_ID"],
        ),
    ] {
        let (runner, mut variables) = machine();
        let script = marked(&format!("examples/{path}"));
        variables.extend(of_system(&script));
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let checkout = runner.path("checkout");
        let ran = runner.user(
            &format!("set -e\ncd '{}'\n{script}", checkout.display()),
            &variables,
        );
        assert!(ran.success(), "{path}: {ran}");
        assert!(
            ran.stdout.contains("hello from allowed.test"),
            "{path}: {ran}"
        );
        for wanted in ["VALID, end proven", "kernel_enforced"] {
            assert!(ran.stdout.contains(wanted), "{path}: {ran}");
        }
        let identity = fs::read(checkout.join("audit-packet/identity.json")).unwrap();
        let identity: serde_json::Value = serde_json::from_slice(&identity).unwrap();
        assert_eq!(identity["provider"], provider, "{identity}");
        for (member, name) in [
            ("repository", repository),
            ("commit", commit),
            ("run_id", run_id),
        ] {
            let value = variables.iter().find(|(one, _)| *one == name).unwrap().1;
            assert_eq!(identity[member], value, "{path}: {identity}");
            // In the job of another run, the verification of the example fails.
            let (_, verification) = script.split_once("egress verify ").unwrap();
            let check = format!("cd '{}'\negress verify {verification}", checkout.display());
            let other: Vec<(&str, &str)> = variables
                .iter()
                .map(|(one, value)| (*one, if *one == name { "other" } else { *value }))
                .collect();
            assert!(runner.user(&check, &variables).success(), "{path}: {name}");
            let refused = runner.user(&check, &other);
            assert_eq!(refused.status, Some(1), "{path}: {name}: {refused}");
            assert!(refused.stdout.contains(member), "{path}: {refused}");
        }
        // Verification fails if another key is pinned.
        let other = runner.key("other.key").display().to_string();
        let check = format!(
            "cd '{}' && egress verify audit-packet --key '{other}.pub'",
            checkout.display()
        );
        assert!(!runner.user(&check, &variables).success(), "{path}");
    }
}

#[test]
fn unit_is_accepted_and_its_command_runs() {
    let (runner, _) = machine();
    let unit = fs::read_to_string(project().join("examples/systemd/egress-agent.service")).unwrap();
    let dir = runner.world.dir().display().to_string();
    let made = runner.world.shell(
        "mkdir -p units srv/agent var
         printf 'mode: strict\\napi_allowlist: [allowed.test]\\n' > policy.yaml
         echo 'curl -fsS http://allowed.test/' > srv/agent/agent.sh",
    );
    assert!(made.success(), "{made}");
    let unit = unit
        .replace("/usr/local/bin/egress", &format!("{dir}/bin/egress"))
        .replace("/etc/egress/policy.yaml", &format!("{dir}/policy.yaml"))
        .replace("/var/lib/egress", &format!("{dir}/var"))
        .replace("/srv/agent", &format!("{dir}/srv/agent"));
    fs::write(runner.path("units/egress-agent.service"), &unit).unwrap();
    fs::copy(
        project().join("examples/systemd/egress-agent.timer"),
        runner.path("units/egress-agent.timer"),
    )
    .unwrap();
    let verify = "systemd-analyze verify units/egress-agent.service units/egress-agent.timer";
    let accepted = runner.world.shell(verify);
    assert!(accepted.success(), "{accepted}");
    assert_eq!(
        accepted.stderr.matches("egress-agent").count(),
        0,
        "{accepted}"
    );
    fs::write(
        runner.path("units/egress-agent.service"),
        unit.replace("Type=oneshot", "Tipe=oneshot"),
    )
    .unwrap();
    let refused = runner.world.shell(verify);
    assert!(refused.stderr.contains("Tipe"), "{refused}");

    let command = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    let command = command.replace("%d/", &format!("{dir}/"));
    let ran = runner.world.shell(&format!("cd srv/agent && {command}"));
    assert!(ran.success(), "{ran}");
    let checked = runner
        .world
        .shell("bin/egress verify var/packet --key signer.key.pub --boundary-key boundary.key.pub --require-grade kernel_enforced");
    assert!(checked.success(), "{checked}");
}

#[test]
fn commands_of_the_reviewers_guide_work_on_a_packet() {
    let (runner, mut variables) = machine();
    let checkout = runner.path("checkout");
    let script = marked("examples/gitlab/gitlab-ci.yml");
    variables.extend(of_system(&script));
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let ran = runner.user(
        &format!("set -e\ncd '{}'\n{script}", checkout.display()),
        &variables,
    );
    assert!(ran.success(), "{ran}");
    let key = fs::read_to_string(runner.path("signer.key.pub")).unwrap();
    let packet = fs::read_to_string(checkout.join("audit-packet/packet.json")).unwrap();
    let hex = packet
        .split("\"signer_key\": \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    assert!(!key.is_empty() && hex.len() == 64);
    let guide = fs::read_to_string(project().join("docs/reviewer-guide.md")).unwrap();
    let commands: Vec<&str> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .collect();
    assert_eq!(commands.len(), 5, "{commands:#?}");
    for (command, wanted) in
        commands
            .into_iter()
            .zip(["kernel_enforced", hex, hex, "denied.test", "allowed.test"])
    {
        let command = command
            .replace(
                "egress verify",
                &format!("{}/bin/egress verify", runner.world.dir().display()),
            )
            .replace(
                "pipelock-verifier-rs",
                &Reference::Rust.path().display().to_string(),
            )
            .replace(
                "pipelock-verify ",
                &format!("{} ", Reference::Python.path().display()),
            )
            .replace("PACKET", "checkout/audit-packet")
            .replace("KEYHEX", hex);
        let ran = runner.world.shell(&command);
        assert!(ran.success(), "{command}: {ran}");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        let is_hex = wanted == hex;
        assert!(
            said.contains(wanted) || (is_hex && !said.is_empty()),
            "{command}: {ran}"
        );
    }
}
