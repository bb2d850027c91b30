//! A secret in a URL is in no file of the Audit Packet, and in nothing that a run prints.
use egress_tests::secret_urls::{assert_secrets_are_nowhere, assert_token_is_nowhere, holders};
use egress_tests::{RunOutput, World};

use crate::support::{NO_PROXY, allow, assert_verified, has_sessions, with};

#[test]
fn a_token_in_a_url_is_in_nothing_that_a_run_leaves_behind() {
    let world = World::new();
    // Pipelock finds the token, denies the request, and redacts the target.
    let run = with(&world, &allow(&["allowed.test"]));
    let run = assert_token_is_nowhere(&world, run, &["core_dlp", "redacted"]);
    // A Pipelock without sessions redacts a receipt after it has signed it.
    if has_sessions(&run) {
        assert_eq!(run.status, Some(0), "{run}");
        assert_verified(&world, &run);
    }
}

/// Starts of the secrets that Pipelock 3.2 does not redact in its receipts, although egress does: short tokens, the token of a
/// Telegram bot, the address of an account, and a part of a JSON Web Token.
const SIGNED: [&str; 5] = ["sk-7", "pypi-7", "bot123456:", "0x", "eyJ"];

#[test]
fn no_kind_of_secret_in_a_path_is_in_the_packet() {
    let world = World::new();
    let run = with(&world, &allow(&["allowed.test"]));
    let (run, signed) = assert_secrets_are_nowhere(&world, run);
    if has_sessions(&run) {
        let is_known = |secret: &String| SIGNED.iter().any(|start| secret.starts_with(start));
        assert!(signed.iter().all(is_known), "{signed:#?}\n{run}");
        assert!(signed.len() <= SIGNED.len(), "{signed:#?}\n{run}");
        assert_eq!(run.status, Some(0), "{run}");
        assert_verified(&world, &run);
    }
}

/// The end of a text that only a pattern of the policy describes. The client also sends it percent-encoded.
const NUMBER: &str = "X7315";

/// Requests the text as a short path, as a part of a path, and percent-encoded.
fn requested(world: &World, yaml: &str) -> RunOutput {
    let paths = ["/Q", "/harmless-path/Q", "/harmless-path/%51"].map(|start| {
        let url = format!("http://allowed.test{start}{NUMBER}");
        format!("curl -sS -o /dev/null -w '%{{http_code}}\\n' {url}\n")
    });
    let script = format!("{NO_PROXY}{}", paths.concat());
    with(world, yaml).script(&script).run()
}

/// Returns a policy with a pattern that matches the text.
fn with_pattern(exempt: &str, redact: bool) -> String {
    format!(
        "{}dlp: {{patterns: [{{name: Number, regex: 'qx\\d{{4}}', severity: high, exempt_domains: [{exempt}]}}]}}\n\
         flight_recorder: {{redact: {redact}}}\n",
        allow(&["allowed.test"])
    )
}

#[test]
fn a_text_that_a_pattern_of_the_policy_matches_is_in_no_record() {
    let world = World::new();
    // The origin does not have the paths. The control: without the pattern, both records show the text.
    let run = requested(&world, &allow(&["allowed.test"]));
    assert_eq!(run.stdout, "404\n404\n404\n", "{run}");
    let names = holders(&run, NUMBER);
    for record in ["evidence.jsonl", "flows.jsonl"] {
        assert!(names.iter().any(|name| name == record), "{names:?}\n{run}");
    }
    assert_verified(&world, &run);

    // A Pipelock without sessions redacts a receipt after it has signed it, so only the flow log is redacted.
    let redacts = has_sessions(&run);
    let signed: &[&str] = if redacts { &[] } else { &["evidence.jsonl"] };
    for (exempt, stdout) in [
        ("allowed.test", "404\n404\n404\n"),
        ("other.test", "403\n403\n403\n"),
    ] {
        let run = requested(&world, &with_pattern(exempt, redacts));
        assert_eq!(run.stdout, stdout, "{run}");
        assert_eq!(holders(&run, NUMBER), signed, "{run}");
        let hidden = holders(&run, "allowed.test/[redacted-value]");
        assert!(hidden.contains(&String::from("flows.jsonl")), "{run}");
        assert_verified(&world, &run);
    }
    // A path in the flow log is hidden even if the receipt shows it.
    if redacts {
        let run = requested(&world, &with_pattern("allowed.test", false));
        assert_eq!(run.stdout, "404\n404\n404\n", "{run}");
        assert_eq!(holders(&run, NUMBER), ["evidence.jsonl"], "{run}");
        assert_verified(&world, &run);
    }
}

#[test]
fn a_pattern_that_egress_cannot_compile_ends_the_run_before_it_starts() {
    let world = World::new();
    let yaml = with_pattern("allowed.test", true).replace("qx", "(?=qx)");
    let run = with(&world, &yaml).script("echo started\n").run();
    assert_eq!((run.status, run.stdout.as_str()), (Some(64), ""), "{run}");
    assert!(run.stderr.contains("`dlp.patterns[0].regex`"), "{run}");
}
