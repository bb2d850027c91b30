//! Runs the examples for other CI systems and the commands of the reviewer's guide exactly as their pages show them.
use std::fs;

use egress_tests::evidence::Reference;

use egress_tests::workflow::{Runner, project};

const POLICY: &str = "mode: strict\napi_allowlist: [allowed.test]\n";

/// Returns the lines of a page between its two marks, as the shell receives them.
fn marked(path: &str) -> String {
    let text = fs::read_to_string(project().join(path)).unwrap();
    let (_, rest) = text.split_once("# begin\n").unwrap();
    let (script, _) = rest.split_once("# end\n").unwrap();
    // Buildkite replaces `$$` with one dollar sign before the shell reads the script.
    script.replace("$$", "$")
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
        ("CI", "true".to_owned()),
        ("SIGNER_KEY", key.clone()),
        ("SIGNER_PUBLIC_KEY", format!("{key}.pub")),
        ("BOUNDARY_KEY", boundary.clone()),
        ("BOUNDARY_PUBLIC_KEY", format!("{boundary}.pub")),
    ];
    (runner, variables)
}

#[test]
fn examples_of_other_systems_run() {
    for path in [
        "gitlab/gitlab-ci.yml",
        "buildkite/pipeline.yml",
        "jenkins/Jenkinsfile",
    ] {
        let (runner, variables) = machine();
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let script = marked(&format!("examples/{path}"));
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
    let (runner, variables) = machine();
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let checkout = runner.path("checkout");
    let script = marked("examples/gitlab/gitlab-ci.yml");
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
