//! `egress policy check` and `egress policy schema`, and the warnings about a policy before a run.

use std::fs;

use egress_tests::{World, binary};
use serde_json::Value;

const POLICY: &str = "\
version: 1
mode: strict
api_allowlist: [h10.test, h2.test, '*.test']
ssrf:
  ip_allowlist: [10.20.0.0/16]
trusted_domains: [mirror.corp.test]
";

#[test]
fn a_policy_is_checked_without_privileges() {
    let world = World::new();
    let path = world.dir().join("policy.yaml");
    fs::write(&path, POLICY).unwrap();
    let checked = world.shell(&format!(
        "setpriv --no-new-privs --bounding-set=-all --inh-caps=-all {} policy check {}",
        binary().display(),
        path.display()
    ));
    assert!(checked.success(), "{checked}");
    assert_eq!(checked.stderr, "", "{checked}");
    for line in [
        "mode      strict: only the destinations below can be reached\n",
        "hosts     *.test (test and every name below it)\n          h2.test\n          h10.test\n",
        "ports     80, 443, and those of egress run --allow-port\n",
        "ranges    10.20.0.0/16\n",
        "private   mirror.corp.test\n",
        "warning   `api_allowlist` contains a wildcard over a whole top-level domain",
    ] {
        assert!(checked.stdout.contains(line), "{line}: {checked}");
    }
    let check = |more: &[&str]| {
        let words = ["policy", "check", path.to_str().unwrap()];
        world.tool(words.iter().chain(more))
    };
    let json = check(&["--json"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["schema_version"], "egress.policy-check.v1");
    assert_eq!(
        json["hosts"],
        serde_json::json!(["*.test", "h2.test", "h10.test"])
    );
    assert_eq!(json["is_enforced"], true);

    // A policy that only Pipelock supports is one error for the built-in mediator, and is accepted for Pipelock.
    fs::write(&path, "mode: balanced\ndlp: {scan_env: true}\n").unwrap();
    let refused = check(&[]);
    assert_eq!(refused.status, Some(64), "{refused}");
    assert_eq!(refused.stderr.matches("error:").count(), 1, "{refused}");
    assert!(
        refused
            .stderr
            .contains("line 1: `mode` must be strict, not \"balanced\""),
        "{refused}"
    );
    let accepted = check(&["--mediator", "pipelock"]);
    assert!(accepted.success(), "{accepted}");
    assert!(
        accepted
            .stdout
            .contains("mode      balanced: every destination"),
        "{accepted}"
    );
    let json = check(&["--json"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (&json["exit"], &json["schema_version"]),
        (&64.into(), &"egress.failure.v1".into())
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(check(&[]).status, Some(64));
}

#[test]
fn the_schema_accepts_what_a_run_accepts() {
    let world = World::new();
    let printed = world.tool(["policy", "schema"]);
    assert!(printed.success(), "{printed}");
    let schema: Value = serde_json::from_str(&printed.stdout).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let path = world.dir().join("policy.yaml");
    for (policy, is_valid) in [
        (POLICY, true),
        ("{}", true),
        (
            "mode: strict\napi_allowlist: ['2001:db8::1', 'a_b.test', 192.0.2.1]\n",
            true,
        ),
        (
            "flight_recorder: {completeness: {heartbeat_interval: 90s}}\n",
            true,
        ),
        ("api_allow_list: []\n", false),
        ("version: 2\n", false),
        ("mode: Strict\n", false),
        ("api_allowlist: ['https://a.test/']\n", false),
        ("api_allowlist: ['a.test:8443']\n", false),
        ("ssrf: {ip_allowlist: [10.0.0.1]}\n", false),
        ("forward_proxy: {idle_timeout_seconds: 0}\n", false),
    ] {
        fs::write(&path, policy).unwrap();
        let checked = world.tool(["policy", "check", path.to_str().unwrap()]);
        assert_eq!(checked.success(), is_valid, "{policy}: {checked}");
        let value: Value = serde_saphyr::from_str(policy).unwrap();
        assert_eq!(schema.is_valid(&value), is_valid, "{policy}");
    }
}

#[test]
fn a_run_warns_of_wide_wildcards_and_of_proxies_that_it_does_not_use() {
    let world = World::new();
    let run = world
        .egress()
        .config("mode: strict\napi_allowlist: ['*.test']\n")
        .env("HTTPS_PROXY", "http://user:s3cr3t@proxy.test:3128")
        .script("echo $HTTPS_PROXY")
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    for said in [
        "warning   `api_allowlist` contains a wildcard over a whole top-level domain",
        "warning   the mediator does not use the proxy of the caller (HTTPS_PROXY)",
    ] {
        assert_eq!(run.stderr.matches(said).count(), 1, "{said}: {run}");
    }
    assert!(!run.stderr.contains("s3cr3t"), "{run}");
    assert!(run.stdout.starts_with("http://127.0.0.1:"), "{run}");
    let plain = world.egress().allow(&["allowed.test"]).script("true").run();
    assert!(!plain.stderr.contains("warning   "), "{plain}");
}
