//! Evidence with known verdicts: derived cases, runs of real Pipelock versions, and published conformance sets. The
//! corpora are not part of the repository. `EGRESS_SHARED` names the directory of the corpora.
#![allow(
    clippy::allow_attributes,
    clippy::format_collect,
    clippy::panic,
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::support::corpora;
use egress::cli::verify::{VerifyArgs, VerifyError, VerifyOutcome, status, verify};
use pipelock_receipts::canonical::push_string;
use pipelock_receipts::json::{MAX_DEPTH, parse};
use pipelock_receipts::report::{End, EvidenceVerdict};
use pipelock_receipts::session::computed_genesis;
use serde_json::Value;

/// Cases in which the verdict of egress differs from one or both reference verifiers: the file, whether egress accepts
/// it, and the reason. A reference verifier accepts with exit status 0 or 3.
const DIFFERENCES: &[(&str, bool, &str)] = &[
    // Both reference verifiers accept.
    (
        "packets/transports-wrong",
        false,
        "summary.transports must be true where it is stated",
    ),
    (
        "packets/identity-wrong",
        false,
        "run.agent_identity must be an actor of the receipts",
    ),
    ("packets/gen-bad", false, "generated_at must be a time"),
    (
        "packets/ts-backwards",
        false,
        "a packet is not made before its run ends",
    ),
    (
        "packets/v37-real",
        false,
        "its writer states the policy hash of an empty file and an agent that no receipt has as its actor",
    ),
    (
        "packets/vcount-wrong",
        false,
        "verifier.receipt_count must be true",
    ),
    (
        "packets/receipts-inline-wrong",
        false,
        "inline receipts must be those of the evidence",
    ),
    (
        "packets/mixed-sessions",
        false,
        "evidence of two recorder sessions is not one run",
    ),
    (
        "packets/v37-no-v2",
        false,
        "entries are missing: gaps in seq and checkpoint signature",
    ),
    (
        "packets/verdict-notrun-notrust",
        true,
        "our own verdict counts, with --allow-unpinned",
    ),
    (
        "packets/v37-truncated",
        false,
        "verifier.receipt_count must be true",
    ),
    // The Rust reference accepts.
    (
        "malformed/r-key-upper.json",
        false,
        "writers emit lower case; the receipt hash would be ambiguous",
    ),
    (
        "malformed/r-missing-principal.json",
        false,
        "required members must be present",
    ),
    (
        "malformed/r-missing-actor.json",
        false,
        "required members must be present",
    ),
    (
        "malformed/r-missing-side_effect_class.json",
        false,
        "required members must be present",
    ),
    ("malformed/r-bad-ts.json", false, "a time must be valid"),
    (
        "malformed/r-ts-frac10.json",
        false,
        "Go cannot read ten fraction digits",
    ),
    (
        "malformed/r-ts-lower.json",
        false,
        "Go reads capital T and Z only",
    ),
    ("malformed/r-ts-leap.json", false, "Go has no leap seconds"),
    ("malformed/r-ts-comma.json", false, "writers emit a dot"),
    (
        "malformed/c-seq-start-1.jsonl",
        false,
        "a chain starts at 0",
    ),
    // The Python reference accepts.
    ("v24/bare-receipts.jsonl", false, "recorder files only"),
    (
        "malformed/ws-only-line-us.jsonl",
        false,
        "U+001F is not white space in Go",
    ),
    (
        "malformed/ws-leading-us.jsonl",
        false,
        "U+001F is not white space in Go",
    ),
    (
        "malformed/unknown-type.jsonl",
        false,
        "an unknown entry may mean anything",
    ),
    (
        "malformed/v-4.jsonl",
        false,
        "an unknown version may mean anything",
    ),
    ("malformed/v-2.0.jsonl", false, "a version is an integer"),
    (
        "malformed/casefold-envelope-key.jsonl",
        false,
        "Go would read it as another member",
    ),
    (
        "malformed/hugeint-envelope.jsonl",
        false,
        "numbers over 2^53-1 differ between readers",
    ),
    (
        "malformed/lone-surrogate.jsonl",
        false,
        "readers differ on lone surrogates",
    ),
    (
        "malformed/depth-128.jsonl",
        false,
        "one level is left for the readers of an entry",
    ),
    ("malformed/r-ext-nan.json", false, "NaN is not JSON"),
    (
        "malformed/r-ext-bigint.json",
        false,
        "numbers over 2^53-1 differ between readers",
    ),
    (
        "malformed/r-version-1.0.json",
        false,
        "a version is an integer",
    ),
    (
        "malformed/r-seq-2p53.json",
        false,
        "numbers over 2^53-1 differ between readers",
    ),
    (
        "malformed/c-mixed-sessions.jsonl",
        false,
        "evidence of two recorder sessions is not one run",
    ),
    // The Python reference rejects.
    (
        "malformed/raw-ls-in-summary.jsonl",
        true,
        "lines end at LF only",
    ),
];

/// Returns whether the test must fail if a corpus is missing.
fn required() -> bool {
    std::env::var_os("EGRESS_TEST_REQUIRE").as_deref() == Some(OsStr::new("all"))
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Verifies as `egress verify` does. Returns the exit status and the outcome.
fn check(path: &Path, keys: &[String], unpinned: bool) -> (u8, Option<VerifyOutcome>) {
    let args = VerifyArgs {
        path: path.to_owned(),
        keys: keys.to_vec(),
        allow_unpinned: unpinned,
        ..VerifyArgs::default()
    };
    match verify(&args) {
        Ok(outcome) => (status(&outcome, &args), Some(outcome)),
        Err(VerifyError::Read { .. }) => (2, None),
        Err(error) => panic!("{error}"),
    }
}

/// Returns the rule and the place of the first findings, for the message of a failed test.
fn first_findings(outcome: Option<&VerifyOutcome>) -> String {
    outcome.map_or_else(String::new, |outcome| {
        let findings = outcome.findings.iter().take(3);
        findings
            .map(|finding| format!("{} {} {}; ", finding.rule.id, finding.place, finding.found))
            .collect()
    })
}

#[test]
#[ignore = "needs the corpora that EGRESS_SHARED names"]
fn derived_cases_have_the_argued_verdict() {
    let corpora = corpora();
    let cases = read_json(&corpora.join("cases.json"));
    let mut differences: BTreeMap<&str, bool> = DIFFERENCES
        .iter()
        .map(|(path, accept, _)| (*path, *accept))
        .collect();
    let mut wrong = Vec::new();
    for case in cases.as_array().unwrap() {
        let text = |name: &str| case[name].as_str().unwrap_or("");
        let path = text("path");
        let key = match text("key") {
            "" => Vec::new(),
            _ if path.contains("ok-nokey") => Vec::new(),
            key => vec![String::from(key)],
        };
        let unpinned = text("extra").contains("--no-trust-required");
        let (code, outcome) = check(&corpora.join(path), &key, unpinned);
        let accept = code == 0 || code == 3;
        let reference = |name: &str| case[name][0].as_i64().map(|code| code == 0 || code == 3);
        let short = path
            .trim_start_matches("derived/")
            .trim_end_matches("/packet.json");
        let argued = differences.remove(short);
        let expected = argued.unwrap_or_else(|| match text("expect") {
            "valid" | "valid prefix" => true,
            "?" => reference("crate").unwrap(),
            _ => false,
        });
        let same = reference("crate") == Some(accept)
            && reference("pypi").is_none_or(|python| python == accept);
        if accept != expected || (!same && argued.is_none() && text("expect") == "?") {
            wrong.push(format!(
                "{short}: ours {code}, expected {expected}, references {:?} {:?}: {}",
                reference("crate"),
                reference("pypi"),
                first_findings(outcome.as_ref())
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(differences.is_empty(), "no such case: {differences:?}");
}

#[test]
#[ignore = "needs the corpora that EGRESS_SHARED names"]
fn runs_of_real_versions_have_the_argued_status() {
    let corpora = corpora();
    let mut runs = 0;
    for entry in fs::read_dir(corpora.join("pipelock-runs")).unwrap() {
        let directory = entry.unwrap().path();
        let expected = read_json(&directory.join("expected.json"));
        let name = directory
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let entries = expected["recomputed"]["entries"].as_u64().unwrap_or(0);
        if cfg!(debug_assertions) && entries > 300 && !required() {
            println!("left out: {name} holds {entries} entries, too slow without optimisation");
            continue;
        }
        let key = vec![String::from(expected["key"].as_str().unwrap())];
        let (code, outcome) = check(&directory, &key, false);
        let outcome = outcome.unwrap();
        let report = outcome.report.as_ref().unwrap();
        if let Some(argued) = expected["argued_exit"]["one_of"].as_array() {
            let argued: Vec<u64> = argued.iter().filter_map(Value::as_u64).collect();
            assert!(
                argued.contains(&u64::from(code)),
                "{name}: {code}, {}",
                first_findings(Some(&outcome))
            );
        }
        if expected["recomputed"]["outer_chain"] == "ok" {
            assert_eq!(
                Some(report.entries),
                expected["recomputed"]["entries"].as_u64(),
                "{name}"
            );
        }
        if let Some(count) = expected["entries"]["action_receipt"].as_u64() {
            assert_eq!(report.receipt_count, count, "{name}");
        }
        // With Pipelock 3.1 and later, a regular end is proven. Apart from that, pinning the key makes no difference.
        if code == 0 {
            assert_eq!(
                (outcome.verdict, &report.end),
                (EvidenceVerdict::Valid, &End::Proven),
                "{name}"
            );
            let (unpinned, _) = check(&directory, &[], false);
            assert_eq!(unpinned, 1, "{name}");
        }
        runs += 1;
    }
    assert!(runs > 30, "{runs} runs");
}

/// Verdicts about the published chains. A chain with an outcome that has no intent is rejected by the lifecycle rules,
/// which the Rust reference verifier also has.
#[test]
#[ignore = "needs the corpora that EGRESS_SHARED names"]
fn published_chains_have_their_verdict() {
    let corpora = corpora();
    let stated = read_json(&corpora.join("sdk-conformance-v3.mid/test-key.json"));
    let keys = ["public_key_hex", "rotated_public_key_hex"]
        .map(|name| String::from(stated[name].as_str().unwrap()));
    for (path, rule) in [
        ("sdk-conformance-v2.4.0/valid-chain.jsonl", ""),
        ("sdk-conformance-v2.4.0/broken-chain.jsonl", "chain.link"),
        ("sdk-conformance-v3.mid/valid-chain.jsonl", ""),
        ("sdk-conformance-v3.mid/broken-chain.jsonl", "chain.link"),
        (
            "sdk-conformance-v3.mid/frozen/v1/action-receipt-v1-chain.jsonl",
            "",
        ),
        (
            "sdk-conformance-v3.mid/g1-valid-chain.jsonl",
            "action.no-intent",
        ),
        ("sdk-conformance-v3.mid/g1-restart-chain.jsonl", ""),
        (
            "sdk-conformance-v3.mid/g1-rotated-close-count-valid.jsonl",
            "action.no-intent",
        ),
        (
            "sdk-conformance-v3.mid/g1-rotated-close-count-invalid.jsonl",
            "session.close",
        ),
        (
            "sdk-conformance-v3.mid/g1-ambiguous-heartbeat-close.jsonl",
            "session.form",
        ),
        (
            "sdk-conformance-v3.mid/g1-ambiguous-open-close.jsonl",
            "session.form",
        ),
        (
            "sdk-conformance-v3.mid/g1-ambiguous-session-control.jsonl",
            "session.form",
        ),
        (
            "sdk-conformance-v3.mid/g1-broken-genesis.jsonl",
            "session.genesis",
        ),
        (
            "sdk-conformance-v3.mid/g1-close-without-open.jsonl",
            "session.form",
        ),
        (
            "sdk-conformance-v3.mid/g1-empty-run-nonce-after-close.jsonl",
            "session.after-close",
        ),
        (
            "sdk-conformance-v3.mid/g1-heartbeat-after-close.jsonl",
            "session.after-close",
        ),
        (
            "sdk-conformance-v3.mid/g1-plain-after-close.jsonl",
            "session.after-close",
        ),
        (
            "sdk-conformance-v3.mid/g1-inconsistent-close.jsonl",
            "session.close",
        ),
        (
            "sdk-conformance-v3.mid/g1-inconsistent-heartbeat.jsonl",
            "session.heartbeat",
        ),
        (
            "sdk-conformance-v3.mid/g1-legacy-open-genesis.jsonl",
            "session.open",
        ),
        (
            "sdk-conformance-v3.mid/g1-new-session-after-close.jsonl",
            "action.no-intent",
        ),
        (
            "sdk-conformance-v3.mid/g1-reopen-closed-run.jsonl",
            "session.open",
        ),
        ("index-only/sdk-testdata/g1-ext-chain.jsonl", ""),
        (
            "index-only/sdk-testdata/g1-ext-tampered-invalid.jsonl",
            "chain.link",
        ),
        (
            "index-only/sdk-testdata/g1-rotated-same-key-invalid.jsonl",
            "chain.transition",
        ),
        ("verify-python/conformance/valid-chain.jsonl", ""),
        ("verify-python/conformance/broken-chain.jsonl", "chain.link"),
        (
            "verify-python/conformance/g1-rotated-twice-valid.jsonl",
            "trust.key",
        ),
    ] {
        let (code, outcome) = check(&corpora.join(path), &keys, false);
        let outcome = outcome.unwrap();
        if rule.is_empty() {
            assert_eq!(code, 3, "{path}: {}", first_findings(Some(&outcome)));
        } else {
            assert_eq!(code, 1, "{path}");
            let rules: Vec<&str> = outcome
                .findings
                .iter()
                .map(|finding| finding.rule.id)
                .collect();
            assert!(rules.contains(&rule), "{path}: {rules:?}");
        }
    }
}

#[test]
#[ignore = "needs the corpora that EGRESS_SHARED names"]
fn genuine_runs_are_valid_to_the_proven_end() {
    let corpora = corpora();
    for (path, key) in [
        (
            "index-only/run-chains-link-deleted/evidence-proxy.run.03b13ee13e01e7f770480f62ea42f1fe-0.jsonl",
            "index-only/run-chains-link-deleted/signer-key.hex",
        ),
        (
            "verify-python/fixtures/v3_2_0_live_chain.jsonl",
            "verify-python/fixtures/v3_2_0_live_chain.pub",
        ),
    ] {
        let key = corpora.join(key).to_string_lossy().into_owned();
        let (code, outcome) = check(&corpora.join(path), &[key], false);
        assert_eq!(code, 0, "{path}: {}", first_findings(outcome.as_ref()));
    }
}

#[test]
#[ignore = "needs the corpora that EGRESS_SHARED names"]
fn golden_receipts_are_accepted_and_malicious_ones_refused() {
    let corpora = corpora();
    let root = corpora.join("sdk-conformance-v3.mid/corpus");
    let key = read_json(&root.join("test-key.json"))["public_key_hex"]
        .as_str()
        .map(String::from)
        .unwrap();
    let mut count = 0;
    for group in ["golden", "edge", "malicious"] {
        for entry in fs::read_dir(root.join(group)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let Some(stem) = name
                .strip_suffix(".json")
                .filter(|stem| !stem.ends_with(".expect"))
            else {
                continue;
            };
            let expect = read_json(&path.with_file_name(format!("{stem}.expect.json")));
            let (code, outcome) = check(&path, std::slice::from_ref(&key), false);
            // This check does not read a clock, so it does not reject expired evidence.
            let accept = expect["verdict"] == "accept" || expect["reject_reason"] == "expired";
            assert_eq!(
                code == 0,
                accept,
                "{name}: {}",
                first_findings(outcome.as_ref())
            );
            // The root that is published for this case was computed without `ext`, although the receipt hash covers
            // `ext`.
            let is_old = name.starts_with("e09");
            if let (Some(root), true) = (expect["expected_root_hash"].as_str(), accept && !is_old) {
                let report = outcome.unwrap().report.unwrap();
                assert_eq!(report.root_hash.as_deref(), Some(root), "{name}");
            }
            count += 1;
        }
    }
    assert!(count > 20, "{count} fixtures");
}

#[test]
#[ignore = "needs the corpora that EGRESS_SHARED names"]
fn escapes_match_the_published_table() {
    let corpora = corpora();
    let table = read_json(&corpora.join("index-only/go-json-escapes/table.json"));
    let entries = table["entries"].as_array().unwrap();
    assert!(entries.len() >= 130);
    for entry in entries {
        let code = u32::from_str_radix(entry["codepoint"].as_str().unwrap(), 16).unwrap();
        let text = char::from_u32(code).unwrap().to_string();
        let mut out = String::new();
        push_string(&mut out, &text);
        assert_eq!(entry["go_json_hex"], hex::encode(out), "{code:x}");
    }
}

#[test]
#[ignore = "needs the corpora that EGRESS_SHARED names"]
fn genesis_vectors_are_reproduced() {
    let corpora = corpora();
    let vectors = read_json(&corpora.join("sdk-conformance-v3.mid/g1-genesis-vectors.json"));
    for vector in vectors.as_array().unwrap() {
        let open = vector["open"].to_string();
        let node = parse(&open, MAX_DEPTH).unwrap();
        assert_eq!(
            vector["expected"],
            computed_genesis(&node),
            "{}",
            vector["name"]
        );
    }
}
