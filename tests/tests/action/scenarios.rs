//! Workflows in which nothing fails. The tests check what each workflow reports, and which network packets leave the
//! runner.
use std::fs;

use egress_tests::INTERNET;

use egress_tests::workflow::Runner;

const POLICY: &str = "mode: strict\napi_allowlist: [allowed.test]\n";

/// Attempts that fail inside the script. A connection to the relay is left out, because it always opens.
const REFUSED: [&str; 7] = [
    "direct-http",
    "upstream-dns",
    "udp",
    "sudo",
    "docker-socket",
    "capabilities",
    "runner-user",
];

/// Claims: action-outputs*
#[test]
fn smoke_test_of_the_original() {
    let runner = Runner::new();
    runner.key("signer.key");
    runner.write(".pipelock/ci.yaml", POLICY);

    // The control: without a boundary, every attempt succeeds and leaves the machine.
    let start = runner.world.wire().snapshot();
    let control = runner.act("smoke", Some("control"), &[]);
    control.assert_success();
    for (protocol, port) in [(6, 80), (17, 53), (6, 9999), (17, 4000)] {
        runner.world.wire().assert_left(start, |packet| {
            packet.protocol == protocol && packet.port == Some(port)
        });
    }
    for name in REFUSED {
        let succeeded = format!("{name} succeeded");
        assert!(
            control.text().contains(&succeeded),
            "{name}: {}",
            control.output()
        );
    }

    let start = runner.world.wire().snapshot();
    let boundary = runner.act("smoke", Some("boundary"), &[]);
    boundary.assert_success();
    let allowed = [INTERNET.allowed.into(), INTERNET.allowed_v6.into()];
    let resolver = [INTERNET.resolver.into(), INTERNET.resolver_v6.into()];
    for packet in runner.world.wire().since(start) {
        // Only the mediator queries the name server, and only for the address of the allowed name.
        let to = packet.destination.unwrap();
        assert!(allowed.contains(&to) || resolver.contains(&to), "{packet}");
    }
    let asked = runner.world.queries();
    assert!(!asked.is_empty());
    for name in REFUSED {
        let failed = format!("{name} failed");
        assert!(
            boundary.text().contains(&failed),
            "{name}: {}",
            boundary.output()
        );
    }
    assert!(
        boundary.text().contains("allowed succeeded"),
        "{}",
        boundary.output()
    );
    assert_eq!(boundary.errors(), [""; 0]);
    let warnings = boundary.warnings();
    assert!((1..=10).contains(&warnings.len()), "{warnings:#?}");
    assert!(
        warnings.iter().any(|text| text.contains("denied.test")),
        "{warnings:#?}"
    );
}

/// Claims: prepare-objects, user-ids
#[test]
fn two_steps_in_a_job_and_two_jobs_at_once() {
    let runner = Runner::new();
    runner.key("signer.key");
    runner.write(".pipelock/ci.yaml", POLICY);
    let log = runner.act("twice", None, &[]);
    log.assert_success();
    let read =
        |job: &str| fs::read_to_string(runner.path("home").join(format!("digests-{job}"))).unwrap();
    let all = format!("{} {}", read("one"), read("two"));
    let mut digests: Vec<&str> = all.split_whitespace().collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 4, "{digests:?}");
}

#[test]
fn arguments_are_words_and_nothing_is_evaluated() {
    let runner = Runner::new();
    runner.write(".pipelock/ci.yaml", POLICY);
    // `act` accepts only one line for an input, so a block of lines is written into the workflow.
    let workflow = fs::read_to_string(runner.path("checkout/.github/workflows/step.yml")).unwrap();
    let block = "script-args: |\n            a b\n            $(touch evaluated)\n            ${{ env.ARGS }}\n";
    runner.write(
        ".github/workflows/step.yml",
        &workflow.replace("script-args: ${{ env.ARGS }}\n", block),
    );
    let log = runner.step(&[
        ("SCRIPT", "ci/arguments.sh"),
        ("STRICT", "false"),
        ("ARGS", "`id` \"x\" $HOME"),
    ]);
    log.assert_success();
    for line in ["[3]", "[a b]", "[$(touch evaluated)]", "[`id` \"x\" $HOME]"] {
        assert!(
            log.text().contains(&format!("| {line}\n")),
            "{line}: {}",
            log.output()
        );
    }
}

#[test]
fn without_a_policy_the_built_in_mediator_denies_everything_and_warns() {
    let runner = Runner::new();
    let log = runner.step(&[("SCRIPT", "ci/smoke.sh"), ("STRICT", "false")]);
    log.assert_success();
    assert!(log.text().contains("allowed failed"), "{}", log.output());
    assert!(
        log.warnings()
            .iter()
            .any(|text| text.contains("EVERY DESTINATION IS DENIED")),
        "{}",
        log.output()
    );
    assert!(runner.world.requests().is_empty());
}
