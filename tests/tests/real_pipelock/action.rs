//! Tests the action and the Pipelock under test with a real workflow runner.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use egress_tests::INTERNET;
use egress_tests::workflow::{Log, Runner};

use crate::support::pipelock;

/// Runs one step on a machine that has the Pipelock under test and a key.
fn step(runner: &Runner, variables: &[(&str, &str)]) -> Log {
    let program = runner.path("bin/pipelock");
    if !program.exists() {
        fs::copy(pipelock(), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let (program, key) = (program.display().to_string(), runner.path("signer.key"));
    let key = key.display().to_string();
    let public = format!("{key}.pub");
    let mut all = vec![
        ("MEDIATOR", "pipelock"),
        ("PIPELOCK", program.as_str()),
        ("KEY", key.as_str()),
        ("PUBLIC", public.as_str()),
    ];
    all.extend(variables);
    runner.step(&all)
}

#[test]
fn smoke_test_of_the_original() {
    let runner = Runner::new();
    runner.key("signer.key");
    runner.write(
        ".pipelock/ci.yaml",
        "mode: strict\napi_allowlist: [allowed.test]\n",
    );
    let start = runner.world.wire().snapshot();
    let log = step(&runner, &[("SCRIPT", "ci/smoke.sh")]);
    log.assert_success();
    assert!(
        log.text().contains("\"verifier-verdict\": \"valid\""),
        "{}",
        log.output()
    );
    for name in [
        "direct-http",
        "upstream-dns",
        "udp",
        "sudo",
        "docker-socket",
        "capabilities",
        "runner-user",
    ] {
        let failed = format!("{name} failed");
        assert!(log.text().contains(&failed), "{name}: {}", log.output());
    }
    assert!(log.text().contains("allowed succeeded"), "{}", log.output());
    let reached = [
        INTERNET.allowed.into(),
        INTERNET.allowed_v6.into(),
        INTERNET.resolver.into(),
        INTERNET.resolver_v6.into(),
    ];
    for packet in runner.world.wire().since(start) {
        assert!(reached.contains(&packet.destination.unwrap()), "{packet}");
    }
}

#[test]
fn without_a_policy_the_mode_is_balanced_and_the_step_reports_it() {
    let runner = Runner::new();
    runner.key("signer.key");
    let log = step(&runner, &[("SCRIPT", "ci/env.sh"), ("STRICT", "false")]);
    let said = |text: &&str| text.contains("NO ALLOW-LIST IS ENFORCED");
    assert!(log.warnings().iter().any(said), "{}", log.output());
}

#[test]
fn script_without_requests_has_the_verdict_of_its_receipts() {
    let runner = Runner::new();
    runner.key("signer.key");
    runner.write(
        ".pipelock/ci.yaml",
        "mode: strict\napi_allowlist: [allowed.test]\n",
    );
    let log = step(&runner, &[("STRICT", "false")]);
    log.assert_success();
    let packet = fs::read(runner.path("home/packet/packet.json")).unwrap();
    let packet: serde_json::Value = serde_json::from_slice(&packet).unwrap();
    let verifier = packet.get("verifier").unwrap();
    if packet.pointer("/summary/receipt_count").unwrap() == 0 {
        assert_eq!(verifier.get("verdict").unwrap(), "error");
        assert_eq!(verifier.get("trusted").unwrap(), false);
        assert!(verifier.get("signer_key").is_none());
        assert!(
            log.text().contains("\"receipt-count\": \"0\""),
            "{}",
            log.output()
        );
        // By default, evidence that is not valid fails the step.
        step(&runner, &[]).assert_one_error("the verdict is error");
    } else {
        assert_eq!(verifier.get("verdict").unwrap(), "valid");
    }
}
