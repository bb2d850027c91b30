//! Breaks rules of the evidence, each with one edit. The check reports the rule with the edit, and does not report it
//! without the edit.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "an edit that cannot be made fails the test"
)]
use std::fs;
use std::path::PathBuf;

use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence};
use pipelock_receipts::keys;
use pipelock_receipts::record::Posture;
use pipelock_receipts::recorder::{Moment, Recorder, SessionConfig};

/// A change of the lines of a file. Lines are counted from 1.
#[derive(Clone, Copy, Debug)]
enum Edit {
    /// The second text replaces the first text in this line.
    Replace(usize, &'static str, &'static str),
    /// A line is removed.
    Remove(usize),
    /// A copy of the first line is inserted after the second.
    Repeat(usize, usize),
}
use Edit::{Remove, Repeat, Replace};

/// Lines of one session, with the key that signed them.
struct Evidence {
    lines: Vec<String>,
    trust: Trust,
}

impl Evidence {
    /// Reads a file of `tests/data/evidence`.
    fn recorded(file: &str) -> Self {
        let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/evidence");
        let text = fs::read_to_string(data.join(file)).unwrap();
        let cases = fs::read(data.join("cases.json")).unwrap();
        let cases: serde_json::Value = serde_json::from_slice(&cases).unwrap();
        let mut cases = cases.as_array().unwrap().iter();
        let case = cases.find(|case| case["file"] == file).unwrap();
        let key = keys::parse_public(case["key"].as_str().unwrap()).unwrap();
        Self {
            lines: text.split_inclusive('\n').map(str::to_owned).collect(),
            trust: Trust { keys: vec![key] },
        }
    }

    /// Creates a session with two heartbeats, because no recording is long enough to have two.
    fn with_heartbeats() -> Self {
        let key = keys::generate().unwrap();
        let config = SessionConfig {
            recorder_session: String::from("proxy"),
            run_nonce: "ab".repeat(16),
            open_nonce: "cd".repeat(16),
            actor: String::from("ci-agent"),
            policy_hash: "ef".repeat(32),
            heartbeat_seconds: 60,
            posture: Posture::default(),
            checkpoint_interval: 0,
        };
        let id = |number: u8| format!("01a20d10-da40-7c63-bb84-0000000000{number:02}");
        let time = "2026-11-24T10:00:00.5Z";
        let ids: Vec<String> = (0..4).map(id).collect();
        let at = |number: usize| Moment {
            time,
            id: ids.get(number).unwrap(),
        };
        let (mut recorder, mut bytes) = Recorder::open(key.clone(), config, at(0)).unwrap();
        bytes.extend(recorder.heartbeat(at(1)).unwrap());
        bytes.extend(recorder.heartbeat(at(2)).unwrap());
        bytes.extend(recorder.close("graceful_shutdown", at(3)).unwrap().lines);
        let text = String::from_utf8(bytes).unwrap();
        Self {
            lines: text.split_inclusive('\n').map(str::to_owned).collect(),
            trust: Trust {
                keys: vec![key.verifying_key()],
            },
        }
    }

    /// Returns the rules that the evidence breaks after this edit.
    fn rules(&self, edit: Option<Edit>) -> Vec<&'static str> {
        let mut lines = self.lines.clone();
        match edit {
            None => {}
            Some(Replace(line, from, to)) => {
                let line = lines.get_mut(line - 1).unwrap();
                assert!(line.contains(from), "no {from} in {line}");
                *line = line.replacen(from, to, 1);
            }
            Some(Remove(line)) => drop(lines.remove(line - 1)),
            Some(Repeat(line, behind)) => {
                lines.insert(behind, lines.get(line - 1).unwrap().clone());
            }
        }
        rules(&[("evidence.jsonl", &lines.concat())], &self.trust)
    }
}

fn rules<'f>(files: &[(&'f str, &'f str)], trust: &Trust) -> Vec<&'static str> {
    let file = |(name, text): &(&'f str, &'f str)| EvidenceFile {
        name,
        bytes: text.as_bytes(),
    };
    let files: Vec<EvidenceFile<'_>> = files.iter().map(file).collect();
    let findings = check_evidence(&files, trust).findings;
    findings.iter().map(|finding| finding.rule.id).collect()
}

#[track_caller]
fn assert_named(evidence: &Evidence, edits: &[(&'static str, Edit)]) {
    let sound = evidence.rules(None);
    for (rule, edit) in edits {
        assert!(!sound.contains(rule), "{rule} without an edit");
        let found = evidence.rules(Some(*edit));
        assert!(found.contains(rule), "{rule}: {edit:?} yields {found:?}");
    }
}

#[test]
fn rules_of_lines_and_entries() {
    let edits = [
        ("line.json", Replace(2, "\"v\":2,", "\"v\":02,")),
        ("line.space", Replace(2, "{\"v\":2,", "\u{c}{\"v\":2,")),
        (
            "entry.bare",
            Replace(2, "\"v\":2,", "\"action_record\":{},"),
        ),
        ("entry.form", Replace(2, "\"seq\":1,", "\"seq\":\"1\",")),
        (
            "entry.alias",
            Replace(2, "\"summary\"", "\"Summary\":\"\",\"summary\""),
        ),
        ("entry.version", Replace(2, "\"v\":2,", "\"v\":4,")),
        (
            "entry.type",
            Replace(2, "\"action_receipt\"", "\"receipt\""),
        ),
        ("entry.time", Replace(2, "\"ts\":\"", "\"ts\":\"x")),
        (
            "entry.nul",
            Replace(2, "\"summary\":\"", "\"summary\":\"\\u0000"),
        ),
        (
            "entry.group",
            Replace(2, "\"action_receipt\"", "\"receipt_group_v1\""),
        ),
        (
            "entry.hash",
            Replace(2, "\"summary\":\"", "\"summary\":\"x"),
        ),
        ("entry.seq", Replace(2, "\"seq\":1,", "\"seq\":2,")),
        (
            "entry.link",
            Replace(2, "\"prev_hash\":\"", "\"prev_hash\":\"0"),
        ),
        (
            "entry.writer",
            Replace(2, "\"v\":2,", "\"v\":2,\"chain_kind\":\"x\","),
        ),
        (
            "entry.unknown",
            Replace(2, "\"v\":2,", "\"v\":2,\"other\":1,"),
        ),
        (
            "entry.text",
            Replace(2, "\"event_kind\":\"read\"", "\"event_kind\":\"write\""),
        ),
        (
            "file.sessions",
            Replace(3, "\"session_id\":\"", "\"session_id\":\"x"),
        ),
        (
            "root.mismatch",
            Replace(9, "\"final_seq\":7", "\"final_seq\":6"),
        ),
        (
            "checkpoint.form",
            Replace(10, "\"entry_count\":9", "\"entry_count\":8"),
        ),
        (
            "checkpoint.signature",
            Replace(10, "\"signature\":\"11", "\"signature\":\"21"),
        ),
        (
            "checkpoint.unsigned",
            Replace(10, "\"signature\":\"", "\"signature\":\"\",\"x\":\""),
        ),
    ];
    assert_named(&Evidence::recorded("builtin.jsonl"), &edits);
}

/// Claims: crate-receipts*
#[test]
fn rules_of_receipts_and_their_chain() {
    let transition = "\"key_transition\":{\"prior_signer_key\":\"\",\"prior_chain_seq\":0,\"prior_chain_hash\":\"\"},\"run_nonce\"";
    let edits = [
        (
            "receipt.form",
            Replace(2, "\"signer_key\"", "\"x\":1,\"signer_key\""),
        ),
        (
            "receipt.value",
            Replace(2, "\"action_type\":\"read\"", "\"action_type\":\"look\""),
        ),
        (
            "receipt.signature-form",
            Replace(2, "\"ed25519:", "\"ed25519:x"),
        ),
        (
            "receipt.signature",
            Replace(2, "allowed.test", "another.test"),
        ),
        (
            "receipt.rewritten",
            Replace(
                2,
                "\"principal\"",
                "\"redacted_fields\":[\"target\"],\"principal\"",
            ),
        ),
        (
            "receipt.time-order",
            Replace(3, "\"timestamp\":\"2026", "\"timestamp\":\"2025"),
        ),
        (
            "policy.changed",
            Replace(4, "\"policy_hash\":\"1", "\"policy_hash\":\"2"),
        ),
        (
            "chain.seq",
            Replace(3, "\"chain_seq\":2", "\"chain_seq\":7"),
        ),
        (
            "chain.link",
            Replace(3, "\"chain_prev_hash\":\"", "\"chain_prev_hash\":\"0"),
        ),
        (
            "chain.signer",
            Replace(3, "\"signer_key\":\"7", "\"signer_key\":\"8"),
        ),
        ("chain.second-start", Repeat(1, 10)),
        ("chain.transition", Replace(3, "\"run_nonce\"", transition)),
    ];
    assert_named(&Evidence::recorded("builtin.jsonl"), &edits);
}

#[test]
fn rules_of_sessions_and_actions() {
    let edits = [
        (
            "session.genesis",
            Replace(1, "\"heartbeat_seconds\":60", "\"heartbeat_seconds\":61"),
        ),
        (
            "session.form",
            Replace(1, "\"kind\":\"session_open\"", "\"kind\":\"session_close\""),
        ),
        (
            "session.open",
            Replace(1, "\"chain_open_seq\":0", "\"chain_open_seq\":1"),
        ),
        (
            "session.open",
            Replace(
                1,
                "\"chain_open_seq\":0",
                "\"chain_open_seq\":0,\"prior_chain_head\":\"none\"",
            ),
        ),
        (
            "session.recorder",
            Replace(1, "\"recorder_session\":\"", "\"recorder_session\":\"x"),
        ),
        ("session.missing-open", Remove(1)),
        (
            "session.nonce",
            Replace(
                2,
                "\"run_nonce\":\"1f086eb3de440655c1b32474a876b3e7\"",
                "\"run_nonce\":\"\"",
            ),
        ),
        (
            "session.close",
            Replace(8, "\"final_seq\":7", "\"final_seq\":6"),
        ),
        ("session.after-close", Repeat(4, 10)),
        ("action.no-intent", Remove(2)),
        ("action.open", Remove(3)),
        ("action.repeated", Repeat(2, 2)),
    ];
    assert_named(&Evidence::recorded("builtin.jsonl"), &edits);
    let edits = [
        (
            "session.heartbeat",
            Replace(3, "\"chain_seq_head\":1", "\"chain_seq_head\":0"),
        ),
        ("session.beats", Replace(3, "\"beat\":2", "\"beat\":3")),
        (
            "session.durability",
            Replace(2, "\"fsync_errors_gated\":0", "\"fsync_errors_gated\":5"),
        ),
    ];
    assert_named(&Evidence::with_heartbeats(), &edits);
}

#[test]
fn rules_of_receipts_of_version_2() {
    let edits = [
        (
            "v2.form",
            Replace(3, "\"jcs_version\":\"rfc8785\"", "\"jcs_version\":\"x\""),
        ),
        ("v2.seq", Replace(5, "\"chain_seq\":1", "\"chain_seq\":7")),
        (
            "v2.link",
            Replace(5, "\"chain_prev_hash\":\"", "\"chain_prev_hash\":\"0"),
        ),
        (
            "v2.signer",
            Replace(5, "\"signer_key_id\":\"1", "\"signer_key_id\":\"2"),
        ),
        ("v2.second-process", Repeat(3, 16)),
        ("v2.count", Remove(13)),
    ];
    assert_named(&Evidence::recorded("pipelock-3.2.jsonl"), &edits);
}

#[test]
fn rules_of_files_and_keys() {
    let Evidence { lines, trust } = Evidence::recorded("pipelock-3.2.jsonl");
    let whole = lines.concat();
    let (head, tail) = lines.split_at(6);
    let (head, tail) = (head.concat(), tail.concat());
    let split = |second| {
        rules(
            &[("evidence-proxy-0.jsonl", &head), (second, &tail)],
            &trust,
        )
    };
    assert_eq!(split("evidence-proxy-6.jsonl"), Vec::<&str>::new());
    assert_eq!(split("evidence-proxy-7.jsonl"), ["file.order"]);
    let named = |name| rules(&[(name, &whole)], &trust);
    assert_eq!(named("evidence-other-0.jsonl"), ["file.name"]);
    let torn = whole.get(..whole.len() - 30).expect("the file is ASCII");
    assert_eq!(rules(&[("evidence.jsonl", torn)], &trust), ["file.torn"]);
    assert_eq!(rules(&[("evidence.jsonl", "")], &trust), ["evidence.empty"]);
    let other = Trust {
        keys: vec![keys::generate().unwrap().verifying_key()],
    };
    let found = rules(&[("evidence.jsonl", &whole)], &other);
    assert!(found.contains(&"trust.key"), "{found:?}");
}
