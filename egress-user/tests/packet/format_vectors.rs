//! Recomputes every value in `docs/format/vectors.md`, and compares the lists on the neighboring pages with those in
//! the code. No page can therefore state a wrong value.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose page cannot be read has failed"
)]

use std::time::Duration;

use audit_packet::attest;
use audit_packet::flows::check_flows;
use audit_packet::format::boundary::BoundaryDocument;
use audit_packet::identity;
use audit_packet::required;
use audit_packet::stream::FileDigest;
use pipelock_receipts::capsule::{self, Against, Capsule};
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence};
use pipelock_receipts::json::{MAX_DEPTH, parse};
use pipelock_receipts::keys::parse_public;
use pipelock_receipts::report::{End, EvidenceVerdict};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("../../../docs/format/vectors.md");
const CHECKS: &str = include_str!("../../../docs/format/checks.md");

/// Returns the text of block number `index` below the heading, without its final LF.
fn block(heading: &str, index: usize) -> &'static str {
    let start = PAGE.find(&format!("\n## {heading}\n"));
    let section = PAGE.get(start.unwrap()..).unwrap();
    let part = section.split("```json\n").nth(index + 1).unwrap();
    part.split_once("\n```").unwrap().0
}

/// Returns the value in the table row whose first cell starts with `what`.
fn value(what: &str) -> &'static str {
    let row = PAGE
        .lines()
        .find(|line| line.starts_with(&format!("| {what}")));
    let cell = row.unwrap().split(" | ").nth(1).unwrap();
    cell.trim_end_matches(" |").trim_matches('`')
}

/// Returns the text between the first `start` and the first `end` after it.
fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    let (_, rest) = text.split_once(start).unwrap();
    rest.split_once(end).unwrap().0
}

fn sha256(text: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(text))
}

#[test]
fn identity_has_its_digest() {
    let text = format!("{}\n", block("Identity", 0));
    let stated = value("SHA-256, which is `evidence.contain_launch.env_sha256`");
    assert_eq!(identity::digest(text.as_bytes()), stated);
    let capsule = Capsule::parse(block("Capsule", 0).as_bytes()).unwrap();
    assert_eq!(capsule.evidence.contain_launch.unwrap().env_sha256, stated);
}

#[test]
fn kernel_programs_have_their_hash() {
    let rules: Value = serde_json::from_str(block("Hash of the kernel programs", 0)).unwrap();
    let mut programs = rules["programs"].clone();
    for program in programs.as_array_mut().unwrap() {
        program["id"] = json!(1);
    }
    // The programs may be in any order in `boundary.json`.
    programs.as_array_mut().unwrap().reverse();
    let boundary = json!({
        "programs": {"attached": programs, "links": []},
        "seccomp": {"agent_sha256": rules["seccomp_sha256"]},
        "probes": {"results": []},
        "flows": {"sha256": "", "head": "", "rows": 0},
        "incomplete": [],
    });
    let measured = BoundaryDocument::read(boundary.to_string().as_bytes()).unwrap();
    let stated = value("SHA-256, which is `evidence.containment.kernel_rule_hash`");
    assert_eq!(measured.kernel_rule_hash(), stated);
    assert_eq!(sha256(block("Hash of the kernel programs", 0)), stated);
    let capsule = Capsule::parse(block("Capsule", 0).as_bytes()).unwrap();
    assert_eq!(
        capsule.evidence.containment.unwrap().kernel_rule_hash,
        stated
    );
}

#[test]
fn capsule_is_signed_and_bound_by_the_evidence() {
    let keys = [parse_public(value("boundary")).unwrap()];
    let trust = Trust {
        keys: vec![parse_public(value("receipts")).unwrap()],
    };
    let evidence = format!("{}\n", block("Evidence", 0));
    let file = EvidenceFile {
        name: "evidence.jsonl",
        bytes: evidence.as_bytes(),
    };
    let report = check_evidence(&[file], &trust);
    assert_eq!(
        (report.verdict, &report.end),
        (EvidenceVerdict::Valid, &End::Proven)
    );
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let text = format!("{}\n", block("Capsule", 0));
    let against = Against {
        keys: &keys,
        session: report.session.as_ref(),
        first_time: &report.first_time,
        last_time: &report.last_time,
        clock_set: Duration::ZERO,
    };
    let checked = capsule::check(text.as_bytes(), "posture-capsule.json", against);
    assert!(checked.findings.is_empty(), "{:?}", checked.findings);
    assert!(checked.is_trusted && checked.is_bound);

    let capsule = checked.capsule.unwrap();
    assert_eq!(capsule.canonical(), block("Capsule", 0));
    assert_eq!(
        sha256(capsule.canonical()),
        value("SHA-256 of the whole text")
    );
    let whole = block("Capsule", 0);
    let cut = whole.find("\"signature\":").unwrap()..whole.find("\"tool_version\":").unwrap();
    let mut signed = whole.to_owned();
    signed.replace_range(cut, "");
    // These two members are the only members between `schema_version` and `tool_version`.
    assert_eq!(signed.len().to_string(), value("length of the signed text"));
    assert_eq!(sha256(&signed), value("SHA-256 of the signed text"));
}

#[test]
fn evidence_has_its_hashes() {
    let lines: Vec<Value> = block("Evidence", 0)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let record = |line: usize| &lines[line]["detail"]["action_record"];
    let genesis = value("genesis of the session");
    assert_eq!(record(0)["chain_prev_hash"], genesis);
    let open = record(0)["session_control"]["open"].to_string();
    let open = parse(&open, MAX_DEPTH).unwrap();
    assert_eq!(pipelock_receipts::session::computed_genesis(&open), genesis);
    let first = block("Evidence", 0).lines().next().unwrap();
    let canonical = between(first, "\"action_record\":", ",\"signature\":");
    assert_eq!(
        sha256(canonical),
        value("SHA-256 of the first canonical record")
    );
    let receipt = between(first, "\"detail\":", ",\"prev_hash\":");
    let hash = value("receipt hash of the first receipt");
    assert_eq!(sha256(receipt), hash);
    assert_eq!(record(1)["chain_prev_hash"], hash);
    let root = value("receipt hash of the second receipt");
    assert_eq!(lines[2]["detail"]["root_hash"], root);
    assert_eq!(lines[0]["hash"], value("hash of the first entry"));
    let message = value("message of the checkpoint's signature");
    assert_eq!(lines[3]["prev_hash"], message);
}

#[test]
fn flow_row_has_its_hash() {
    let row = format!("{}\n", block("Flow row", 0));
    let report = check_flows(&mut row.as_bytes(), &mut |_| {}).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(
        report.head,
        value("SHA-256 of the hashed bytes, which is `hash`")
    );
}

#[test]
fn attestation_is_signed() {
    let text = format!("{}\n", block("Attestation", 0));
    let payload = block("Attestation", 1);
    let statement: Value = serde_json::from_str(payload).unwrap();
    let subjects = statement["subject"].as_array().unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let files: Vec<FileDigest> = subjects
        .iter()
        .map(|one| FileDigest {
            name: word(&one["name"]),
            sha256: word(&one["digest"]["sha256"]),
            size: None,
        })
        .collect();
    let keys = [parse_public(value("boundary")).unwrap()];
    let report = attest::check(text.as_bytes(), &files, &keys);
    assert!(
        report.holds && report.is_trusted && report.findings.is_empty(),
        "{report:?}"
    );
    let start = "DSSEv1 28 application/vnd.in-toto+json";
    let signed = format!("{start} {} {payload}", payload.len());
    let below = PAGE.split("## Attestation").nth(1).unwrap();
    for wanted in [
        format!("| length of the payload, bytes | `{}` |", payload.len()),
        format!("| length of the signed text, bytes | `{}` |", signed.len()),
        format!("the text itself | `{}` |", sha256(&signed)),
    ] {
        assert!(below.contains(&wanted), "{wanted}");
    }
}

/// Claims: program-names, add-program, add-probe
#[test]
fn required_probes_and_programs_are_listed() {
    for (heading, required) in [
        ("## Required probes", &required::PROBES[..]),
        ("## Required kernel programs", &required::PROGRAMS[..]),
    ] {
        let section = CHECKS.split(heading).nth(1).unwrap();
        let list = section.trim_start().split("\n\n").next().unwrap();
        let listed: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
        assert_eq!(listed, required, "{heading}");
    }
}
