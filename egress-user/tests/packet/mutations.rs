//! Every edit of a valid chain is detected and reported under the rule that it breaks.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::too_many_lines,
    reason = "helpers of tests"
)]

use super::support::{Chain, SESSION, chain, chain_with};
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence, check_receipt};
use pipelock_receipts::findings::Finding;
use pipelock_receipts::keys;
use pipelock_receipts::report::{End, EvidenceReport, EvidenceVerdict, Totals};
use sha2::{Digest, Sha256};

const NAME: &str = "evidence-proxy.run.0123456789abcdef0123456789abcdef-0.jsonl";

fn pinned(chain: &Chain) -> Trust {
    Trust {
        keys: vec![chain.key.verifying_key()],
    }
}

fn check(bytes: &[u8], trust: &Trust) -> EvidenceReport {
    check_evidence(&[EvidenceFile { name: NAME, bytes }], trust)
}

fn rules(findings: &[Finding]) -> Vec<&'static str> {
    let mut rules: Vec<&str> = findings.iter().map(|finding| finding.rule.id).collect();
    rules.dedup();
    rules
}

/// Computes the outer chain again, which does not need a key.
fn rehash(lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut head = String::from("genesis");
    lines
        .iter()
        .map(|line| {
            let text = str::from_utf8(line).unwrap();
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let field = |name: &str| value[name].as_str().unwrap_or("").to_owned();
            let (start, _) = text
                .split_once(",\"prev_hash\":\"")
                .map_or((text, ""), |_| {
                    text.rsplit_once(",\"prev_hash\":\"").unwrap()
                });
            let detail = start.split_once("\"detail\":").unwrap().1;
            let parts = [
                value["v"].to_string(),
                value["seq"].to_string(),
                field("ts"),
                field("session_id"),
                field("trace_id"),
                field("type"),
                field("event_kind"),
                field("transport"),
                field("summary"),
                detail.to_owned(),
                field("raw_ref"),
                head.clone(),
            ];
            let hash = hex::encode(Sha256::digest(parts.join("\0")));
            let line = format!("{start},\"prev_hash\":\"{head}\",\"hash\":\"{hash}\"}}\n");
            head = hash;
            line.into_bytes()
        })
        .collect()
}

/// Replaces text in one line.
fn edited(chain: &Chain, line: usize, from: &str, to: &str) -> Vec<Vec<u8>> {
    let mut lines = chain.lines.clone();
    let text = String::from_utf8(lines[line].clone()).unwrap();
    assert!(text.contains(from), "{text}");
    lines[line] = text.replacen(from, to, 1).into_bytes();
    lines
}

#[test]
fn a_sound_chain_is_valid_to_its_end() {
    let chain = chain(40, 7);
    let report = check(&chain.bytes(), &pinned(&chain));
    assert_eq!(report.findings, []);
    assert_eq!(
        (report.verdict, report.end),
        (EvidenceVerdict::Valid, End::Proven)
    );
    assert_eq!(report.receipt_count, chain.closed.receipt_count);
    assert_eq!(report.final_seq, Some(chain.closed.final_seq));
    assert_eq!(
        report.root_hash.as_deref(),
        Some(chain.closed.root_hash.as_str())
    );
    assert_eq!(report.signer_keys, [chain.key_hex()]);
    assert_eq!(report.recorder_session, SESSION);
    assert_eq!(report.counts.actions, 53);
    assert_eq!(report.counts.blocked_actions, 13);
    assert_eq!(
        (report.intents, report.outcomes, report.open_intents),
        (40, 40, 0)
    );
    assert_eq!(
        report.counts.totals,
        Totals {
            allow: report.receipt_count - 13,
            block: 13,
            ..Totals::default()
        }
    );
    assert_eq!(report.counts.layers["allowlist"], 13);
    assert_eq!(report.session.unwrap().contained_uid, "65533");
}

#[test]
fn rehashing_an_unchanged_chain_changes_nothing() {
    let chain = chain(5, 3);
    assert_eq!(rehash(&chain.lines), chain.lines);
}

#[test]
fn without_a_key_a_chain_is_self_consistent_only() {
    let chain = chain(3, 0);
    let report = check(&chain.bytes(), &Trust::default());
    assert_eq!(
        (report.verdict, report.end),
        (EvidenceVerdict::SelfConsistentOnly, End::Proven)
    );
}

/// Name of a mutation, the changed lines, and the first rule that it must break.
type Case = (&'static str, Vec<Vec<u8>>, &'static str);

/// Claims: decisions-signed*
#[test]
fn every_mutation_is_named() {
    // The chain consists of these entries: the opening, a heartbeat, two for each action, a denial after every third
    // action, and a checkpoint after every fifth entry.
    let chain = chain(6, 5);
    let total = chain.lines.len();
    let without = |skip: usize| {
        let mut lines = chain.lines.clone();
        lines.remove(skip);
        lines
    };
    let swapped = |one: usize, other: usize| {
        let mut lines = chain.lines.clone();
        lines.swap(one, other);
        lines
    };
    let doubled = |at: usize| {
        let mut lines = chain.lines.clone();
        lines.insert(at, lines[at].clone());
        lines
    };
    let checkpoint = chain
        .lines
        .iter()
        .position(|line| line.windows(12).any(|part| part == b"\"checkpoint\""))
        .unwrap();
    let flipped_signature = {
        let text = String::from_utf8(chain.lines[2].clone()).unwrap();
        let at = text.find("ed25519:").unwrap() + 8;
        let digit = &text[at..=at];
        let other = if digit == "0" { "1" } else { "0" };
        edited(
            &chain,
            2,
            &format!("ed25519:{digit}"),
            &format!("ed25519:{other}"),
        )
    };
    let target = ("host1.test", "evil1.test");
    let cases: Vec<Case> = vec![
        (
            "target changed",
            edited(&chain, 2, target.0, target.1),
            "receipt.signature",
        ),
        (
            "target changed, rehashed",
            rehash(&edited(&chain, 2, target.0, target.1)),
            "receipt.signature",
        ),
        ("signature bit", flipped_signature, "receipt.signature"),
        (
            "signed with another key",
            chain_with(&keys::generate().unwrap(), 6, 5).lines,
            "trust.key",
        ),
        ("entry dropped", without(3), "entry.seq"),
        (
            "ext added",
            edited(&chain, 2, "},\"prev_hash\"", ",\"ext\":{}},\"prev_hash\""),
            "entry.hash",
        ),
        (
            "ext added, rehashed",
            rehash(&edited(
                &chain,
                2,
                "},\"prev_hash\"",
                ",\"ext\":{}},\"prev_hash\"",
            )),
            "checkpoint.signature",
        ),
        ("entries swapped", swapped(2, 3), "entry.seq"),
        ("entry repeated", doubled(3), "entry.seq"),
        (
            "summary edited",
            edited(&chain, 2, "receipt: allow", "receipt: block"),
            "entry.hash",
        ),
        (
            "summary edited, rehashed",
            rehash(&edited(&chain, 2, "receipt: allow", "receipt: block")),
            "checkpoint.signature",
        ),
        (
            "checkpoint numbers",
            rehash(&edited(
                &chain,
                checkpoint,
                "\"entry_count\":5",
                "\"entry_count\":4",
            )),
            "checkpoint.signature",
        ),
        (
            "last checkpoint edited",
            rehash(&edited(
                &chain,
                total - 1,
                "\"entry_count\":",
                "\"entry_count\":1",
            )),
            "checkpoint.form",
        ),
        ("checkpoint dropped", without(checkpoint), "entry.seq"),
        (
            "root edited",
            rehash(&edited(
                &chain,
                total - 2,
                "\"receipt_count\":",
                "\"receipt_count\":1",
            )),
            "checkpoint.signature",
        ),
        (
            "foreign session",
            edited(&chain, 4, "run.0123", "run.1123"),
            "file.sessions",
        ),
        (
            "foreign run",
            edited(&chain, 2, "\"run_nonce\":\"abab", "\"run_nonce\":\"acab"),
            "session.missing-open",
        ),
        ("open dropped", without(0), "session.missing-open"),
        (
            "unknown member",
            edited(&chain, 2, "\"signer_key\"", "\"x\":1,\"signer_key\""),
            "receipt.form",
        ),
        (
            "rewritten",
            edited(
                &chain,
                2,
                "\"principal\"",
                "\"redacted_fields\":[\"target\"],\"principal\"",
            ),
            "receipt.rewritten",
        ),
        (
            "duplicate key",
            edited(
                &chain,
                2,
                "\"verdict\"",
                "\"verdict\":\"block\",\"verdict\"",
            ),
            "line.json",
        ),
        (
            "twin of a key",
            edited(&chain, 2, "\"summary\"", "\"Summary\":\"x\",\"summary\""),
            "entry.alias",
        ),
    ];
    let mut wrong = Vec::new();
    for (name, lines, rule) in cases {
        let report = check(&lines.concat(), &pinned(&chain));
        let found = rules(&report.findings);
        if report.verdict != EvidenceVerdict::Invalid || found.first() != Some(&rule) {
            wrong.push(format!("{name}: {:?} {found:?}", report.verdict));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Claims: end-proven
#[test]
fn every_single_dropped_line_is_found_or_leaves_the_end_unproven() {
    let chain = chain(6, 5);
    for skip in 0..chain.lines.len() {
        for again in [false, true] {
            let mut lines = chain.lines.clone();
            lines.remove(skip);
            let lines = if again { rehash(&lines) } else { lines };
            let report = check(&lines.concat(), &pinned(&chain));
            let sound = report.verdict == EvidenceVerdict::Valid && report.end == End::Proven;
            assert!(!sound, "line {skip}, rehashed {again}");
        }
    }
}

/// Claims: end-proven*
#[test]
fn every_cut_leaves_a_prefix_or_a_torn_line() {
    // A chain that is cut after a checkpoint in its middle ends with a signed checkpoint.
    let chain = chain(3, 4);
    let bytes = chain.bytes();
    let mut starts = vec![0];
    for line in &chain.lines {
        starts.push(starts.last().unwrap() + line.len());
    }
    for end in (1..bytes.len()).step_by(97) {
        let report = check(&bytes[..end], &pinned(&chain));
        // A whole line counts even without its LF.
        if starts.contains(&end) || starts.contains(&(end + 1)) {
            assert_eq!(report.verdict, EvidenceVerdict::Valid, "{end}");
        } else {
            assert_eq!(report.verdict, EvidenceVerdict::Invalid, "{end}");
            assert_eq!(rules(&report.findings).first(), Some(&"file.torn"), "{end}");
        }
    }
    for lines in 1..chain.lines.len() {
        let report = check(&chain.lines[..lines].concat(), &pinned(&chain));
        assert_eq!(report.verdict, EvidenceVerdict::Valid, "{lines} lines");
        assert!(matches!(report.end, End::Unproven(_)), "{lines} lines");
    }
}

#[test]
fn every_flipped_bit_of_a_line_is_found() {
    let chain = chain(1, 0);
    let bytes = chain.bytes();
    let start = chain.lines[0].len() + chain.lines[1].len();
    for at in (start..start + chain.lines[2].len()).step_by(13) {
        for bit in [0x01, 0x20] {
            let mut bad = bytes.clone();
            bad[at] ^= bit;
            let report = check(&bad, &pinned(&chain));
            assert_eq!(
                report.verdict,
                EvidenceVerdict::Invalid,
                "byte {at} bit {bit:x}"
            );
        }
    }
}

/// Claims: decisions-signed
#[test]
fn another_key_is_named_once() {
    let chain = chain(3, 0);
    let other = Trust {
        keys: vec![keys::generate().unwrap().verifying_key()],
    };
    let report = check(&chain.bytes(), &other);
    assert_eq!(rules(&report.findings), ["trust.key"]);
}

#[test]
fn files_of_two_sessions_are_not_one_run() {
    let key = keys::generate().unwrap();
    let one = chain_with(&key, 1, 0);
    let both = [one.bytes(), one.bytes()].concat();
    let report = check(&both, &pinned(&one));
    assert_eq!(rules(&report.findings).first(), Some(&"chain.second-start"));
}

#[test]
fn a_renamed_file_is_named() {
    let chain = chain(1, 0);
    let file = EvidenceFile {
        name: "evidence-proxy-0.jsonl",
        bytes: &chain.bytes(),
    };
    let report = check_evidence(&[file], &pinned(&chain));
    assert_eq!(rules(&report.findings), ["file.name"]);
}

#[test]
fn rotated_files_are_one_chain_and_a_missing_one_is_found() {
    let chain = chain(4, 0);
    let (head, tail) = chain.lines.split_at(6);
    let (head, tail) = (head.concat(), tail.concat());
    let second = format!("evidence-{SESSION}-6.jsonl");
    let first = EvidenceFile {
        name: NAME,
        bytes: &head,
    };
    let second = EvidenceFile {
        name: &second,
        bytes: &tail,
    };
    let report = check_evidence(&[first, second], &pinned(&chain));
    assert_eq!(
        (report.verdict, report.end),
        (EvidenceVerdict::Valid, End::Proven)
    );
    let report = check_evidence(&[second], &pinned(&chain));
    assert_eq!(report.verdict, EvidenceVerdict::Invalid);
    let report = check_evidence(&[second, first], &pinned(&chain));
    assert_eq!(report.verdict, EvidenceVerdict::Invalid);
}

#[test]
fn one_receipt_is_checked_alone() {
    let chain = chain(1, 0);
    let entry: serde_json::Value = serde_json::from_slice(&chain.lines[2]).unwrap();
    let receipt = serde_json::to_vec_pretty(&entry["detail"]).unwrap();
    assert_eq!(
        check_receipt(&receipt, &pinned(&chain)).verdict,
        EvidenceVerdict::Valid
    );
    let text = String::from_utf8(receipt)
        .unwrap()
        .replace("allow", "block");
    let report = check_receipt(text.as_bytes(), &pinned(&chain));
    assert_eq!(rules(&report.findings), ["receipt.signature"]);
    let report = check_receipt(&chain.lines[2], &pinned(&chain));
    assert_eq!(rules(&report.findings), ["receipt.form"]);
}

#[test]
fn hostile_bytes_make_findings_and_no_panic() {
    let chain = chain(1, 0);
    let line = &chain.lines[2];
    for bytes in [
        b"".to_vec(),
        b"\n\n\r\n".to_vec(),
        b"\xff\xfe".to_vec(),
        b"null\n".to_vec(),
        [b"[".repeat(200_000), b"\n".to_vec()].concat(),
        [b"{\"a\":".repeat(200_000), b"\n".to_vec()].concat(),
        [vec![b'x'; (1 << 20) + 1], b"\n".to_vec()].concat(),
        line.repeat(50),
    ] {
        let report = check(&bytes, &pinned(&chain));
        assert!(!report.is_consistent());
        assert!(!report.findings.is_empty());
        check_receipt(&bytes, &Trust::default());
    }
}
