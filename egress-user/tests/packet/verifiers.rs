//! Recorded runs of real Pipelock versions. Each kind of bad evidence has its own finding with advice.
//! `docs/verifiers.md` lists where the verdict of egress differs from the verdict of a reference verifier.
//!
//! The test compares the table with the runs. `EGRESS_WRITE_DOCS=1` writes a new table.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a run that cannot be read has failed the test"
)]
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::support::corpora;
use audit_packet::verifier_text;
use egress::cli::verify::{VerifyArgs, VerifyOutcome, status, verify};
use pipelock_receipts::findings::Finding;
use pipelock_receipts::report::EvidenceReport;
use serde_json::Value;

/// The page with the table.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verifiers.md");
const BEGIN: &str = "<!-- written by the test of recorded runs: begin -->\n";
const END: &str = "<!-- end -->\n";
const COLUMNS: [&str; 5] = [
    "Pipelock of the run",
    "Pipelock 3.2",
    "Rust 0.6.5",
    "Python 0.4.1",
    "Go 3.2",
];

/// Reasons why a verdict differs. The first text is the start of the finding, or the kind of end, that decides the
/// verdict of egress.
const WHY: &[(&str, &str)] = &[
    (
        "proven",
        "Stopped cleanly: the last entries are the close of the session, a transcript root that describes the chain, \
         and a signed checkpoint. The Rust verifier reports a proven end only if the session is named after a single \
         run, as in Pipelock 3.6 and later. It never does so if there are version 2 receipts.",
    ),
    (
        "action.open",
        "Valid with a warning: an announced action has no outcome. No other verifier reports the finding.",
    ),
    (
        "policy.changed",
        "Valid with a warning: the configuration changed while Pipelock ran. No other verifier reports the finding.",
    ),
    (
        "evidence without sessions",
        "Pipelock 2.x does not write an end, so nothing shows whether receipts were cut off together with the \
         checkpoint after them. Most verifiers do not check the end.",
    ),
    (
        "the session is not closed",
        "Pipelock was killed, so its last actions may have no receipt. Most verifiers do not check the end.",
    ),
    (
        "session.missing-open",
        "Receipts name a run that has no session_open. Only the version that wrote them, and the Go program, which reads only the version 2 chain, accept that.",
    ),
    (
        "v2.second-process",
        "Two processes wrote into one directory, so the version 2 chain starts again. A verifier that reads only version 1 does not detect the second process.",
    ),
];

/// A recorded run, and the outcome of its verification.
struct Checked {
    name: String,
    expected: Value,
    code: u8,
    outcome: VerifyOutcome,
}

impl Checked {
    fn read(directory: &Path) -> Self {
        let text = fs::read(directory.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_slice(&text).unwrap();
        let args = VerifyArgs {
            path: directory.to_owned(),
            keys: vec![expected["key"].as_str().unwrap().to_owned()],
            ..VerifyArgs::default()
        };
        let outcome = verify(&args).unwrap();
        Self {
            name: directory
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned(),
            code: status(&outcome, &args),
            expected,
            outcome,
        }
    }

    fn report(&self) -> &EvidenceReport {
        self.outcome.report.as_ref().unwrap()
    }

    fn finding(&self, id: &str) -> &Finding {
        let mut findings = self.outcome.findings.iter();
        findings
            .find(|finding| finding.rule.id == id)
            .unwrap_or_else(|| panic!("{}: no {id}: {:?}", self.name, self.outcome.findings))
    }

    /// Returns the finding, or the kind of end, that decides the verdict of egress.
    fn cause(&self) -> &str {
        let first = self.outcome.findings.first();
        match (first, &self.report().end) {
            (Some(finding), _) => finding.rule.id,
            (None, pipelock_receipts::report::End::Proven) => "proven",
            (None, pipelock_receipts::report::End::Unproven(reason)) => reason,
        }
    }

    /// Returns the exit statuses of the reference verifiers, in the order of the columns.
    fn references(&self) -> [Option<u64>; 5] {
        let of = |name: &str| self.expected[name]["exit"].as_u64();
        let verifiers = self.expected["verifiers"].as_array();
        let recorded = |tool: &str, command: &str| {
            let mut all = verifiers.into_iter().flatten();
            all.find(|one| one["tool"] == tool && one["command"] == command)
                .and_then(|one| one["exit"].as_u64())
        };
        [
            of("pipelock_verify_receipt"),
            recorded("pipelock 3.2", "verify-receipt --chain DIR --key KEY"),
            of("pipelock-verifier-rs 0.6.5 chain"),
            of("pipelock-verify 0.4.1 chain"),
            recorded("pipelock-verifier (Go, 3.2)", "chain FILE --key KEY"),
        ]
    }
}

fn word(code: u64) -> &'static str {
    match code {
        0 => "valid",
        3 => "prefix",
        _ => "broken",
    }
}

fn runs() -> Vec<Checked> {
    let directory = corpora().join("pipelock-runs");
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() > 30, "{} runs", paths.len());
    paths.iter().map(|path| Checked::read(path)).collect()
}

/// Returns the table. Runs with the same verdicts for the same reason share a row.
fn table(runs: &[Checked]) -> String {
    let mut rows: BTreeMap<(usize, Vec<String>), Vec<&str>> = BTreeMap::new();
    for run in runs {
        let ours = word(u64::from(run.code));
        let references = run.references();
        if run.code == 1
            && references
                .into_iter()
                .flatten()
                .all(|code| word(code) == ours)
        {
            continue;
        }
        let cause = run.cause();
        let why = WHY.iter().position(|(start, _)| cause.starts_with(start));
        let why = why.unwrap_or_else(|| panic!("{}: no reason for {cause}", run.name));
        let finding = if cause.contains('.') {
            format!("{ours}, `{cause}`")
        } else {
            ours.to_owned()
        };
        let mut words = vec![finding];
        words.extend(references.map(|code| code.map_or("–", word).to_owned()));
        rows.entry((why, words)).or_default().push(&run.name);
    }
    let mut text = format!(
        "| Runs | `egress verify` | {} | Why |\n|{}\n",
        COLUMNS.join(" | "),
        "---|".repeat(COLUMNS.len() + 3)
    );
    for ((why, words), names) in rows {
        let why = WHY.get(why).unwrap().1;
        let words = words.join(" | ");
        writeln!(text, "| {} | {words} | {why} |", names.join(", ")).unwrap();
    }
    text
}

#[test]
#[ignore = "needs the corpora that EGRESS_SHARED names"]
fn document_states_where_and_why_verdicts_differ() {
    let runs = runs();
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    let table = table(&runs);
    if std::env::var_os("EGRESS_WRITE_DOCS").is_some() {
        fs::write(DOCUMENT, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        written, table,
        "docs/verifiers.md differs from the recorded runs: EGRESS_WRITE_DOCS=1 writes the table again"
    );
    for (start, _) in WHY {
        assert!(
            runs.iter().any(|run| run.cause().starts_with(start)),
            "no run has the cause {start}"
        );
    }
}

#[test]
#[ignore = "needs the corpora that EGRESS_SHARED names"]
fn every_kind_of_bad_evidence_has_a_finding_with_advice() {
    let runs = runs();
    let mut seen = 0;
    for run in &runs {
        let wanted: &[&str] = match run.name.as_str() {
            "v2.3-dlp" | "v2.4-dlp" => &["receipt.rewritten"],
            "v2.3-disk-full" | "v3.2-disk-full" => &["file.torn"],
            "v2.8-full" | "v3.0-full" | "v3.0-killed-busy" | "v3.0-required" => {
                &["session.missing-open"]
            }
            "v3.1-restart" | "v3.2-restart" => &["v2.second-process"],
            "v2.3-none" | "v2.4-none" | "v3.0-none" => &["evidence.empty"],
            "v3.1-reload" => &["policy.changed"],
            "v3.2-required-open" => &["action.open"],
            _ => &[],
        };
        for id in wanted {
            let finding = run.finding(id);
            assert!(!finding.rule.advice.is_empty(), "{}: {id}", run.name);
            assert!(!finding.rule.problem.is_empty(), "{}: {id}", run.name);
            seen += 1;
        }
        // There is no other finding, except findings that follow from this one.
        let others = run.outcome.findings.iter().map(|finding| finding.rule.id);
        let others: Vec<&str> = others.filter(|id| !wanted.contains(id)).collect();
        let is_known = others.iter().all(|id| *id == "v2.count") && !wanted.is_empty();
        assert!(others.is_empty() || is_known, "{}: {others:?}", run.name);
    }
    assert_eq!(seen, 15);
}

#[test]
#[ignore = "needs the corpora that EGRESS_SHARED names"]
fn both_chains_are_counted_under_their_own_names() {
    let runs = runs();
    let mut both = 0;
    for run in &runs {
        let report = run.report();
        let entries = |kind: &str| run.expected["entries"][kind].as_u64();
        if let Some(count) = entries("action_receipt") {
            assert_eq!(report.receipt_count, count, "{}", run.name);
            let twins = entries("evidence_receipt").unwrap_or(0);
            assert_eq!(report.evidence_receipts, twins, "{}", run.name);
        }
        let stated = &run.expected["receipts"];
        if let Some(transports) = stated["transports"].as_object() {
            let ours: BTreeMap<&str, u64> = report
                .counts
                .transports
                .iter()
                .map(|(name, count)| (name.as_str(), *count))
                .collect();
            let theirs: BTreeMap<&str, u64> = transports
                .iter()
                .map(|(name, count)| (name.as_str(), count.as_u64().unwrap()))
                .collect();
            assert_eq!(ours, theirs, "{}", run.name);
        }
        if let Some(verdicts) = stated["verdicts"].as_object() {
            for (name, count) in report.counts.totals.buckets() {
                let theirs = verdicts.get(name).and_then(Value::as_u64).unwrap_or(0);
                assert_eq!(count, theirs, "{}: {name}", run.name);
            }
        }
        if let Some(hashes) = stated["policy_hashes"].as_array() {
            let theirs: BTreeSet<&str> = hashes.iter().filter_map(Value::as_str).collect();
            assert!(
                report.counts.policy_hashes.iter().eq(theirs),
                "{}",
                run.name
            );
        }
        // If there is a version 2 chain, the Rust verifier reports about it. Otherwise, the Rust verifier reports about
        // the version 1 chain.
        let lines = run.expected["pipelock-verifier-rs 0.6.5 chain"]["lines"].as_array();
        let shown = |name: &str| {
            let mut lines = lines.into_iter().flatten().filter_map(Value::as_str);
            lines.find_map(|line| line.trim().strip_prefix(name).map(str::trim))
        };
        if let (Some(count), Some(seq), Some(root)) =
            (shown("receipts:"), shown("final seq:"), shown("root hash:"))
        {
            let (our_count, our_seq, our_root) = if report.evidence_receipts > 0 {
                both += 1;
                (
                    report.evidence_receipts,
                    report.evidence_final_seq,
                    &report.evidence_root_hash,
                )
            } else {
                (report.receipt_count, report.final_seq, &report.root_hash)
            };
            assert_eq!(our_count.to_string(), count, "{}", run.name);
            assert_eq!(our_seq.unwrap().to_string(), seq, "{}", run.name);
            assert_eq!(our_root.as_deref(), Some(root), "{}", run.name);
        }
    }
    assert!(both > 10, "{both} runs with both chains");
}

#[test]
#[ignore = "needs the corpora that EGRESS_SHARED names"]
fn intents_and_outcomes_are_paired_and_the_text_explains_the_counts() {
    let runs = runs();
    let run = |name: &str| runs.iter().find(|run| run.name == name).unwrap();
    let text = |run: &Checked| {
        let outcome = &run.outcome;
        verifier_text::render(outcome.verdict, run.report(), &outcome.findings, None, None)
    };

    let paired = run("v3.2-required");
    let report = paired.report();
    let phases = &paired.expected["receipts"]["phases"];
    assert_eq!(Some(report.intents), phases["intent"].as_u64());
    assert_eq!(Some(report.outcomes), phases["outcome"].as_u64());
    assert_eq!(report.open_intents, 0);
    let rest = report.session_records + report.outcomes;
    assert_eq!(report.counts.actions, report.receipt_count - rest);
    let said = text(paired);
    for part in [
        format!("{} session records", report.session_records),
        format!("{} outcomes of allowed actions", report.outcomes),
        format!("version 2:   {} receipts", report.evidence_receipts),
        report.evidence_root_hash.clone().unwrap(),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }

    // The report contains the line and the action of an intent without an outcome.
    let open = run("v3.2-required-open");
    assert_eq!(open.report().open_intents, 2);
    let named: Vec<&Finding> = open
        .outcome
        .findings
        .iter()
        .filter(|finding| finding.rule.id == "action.open")
        .collect();
    assert_eq!(named.len(), 2);
    let evidence = corpora().join("pipelock-runs/v3.2-required-open/evidence-proxy-0.jsonl");
    let evidence = fs::read_to_string(evidence).unwrap();
    for finding in named {
        let line = usize::try_from(finding.place.line.unwrap()).unwrap();
        let line = evidence.lines().nth(line - 1).unwrap();
        assert!(line.contains(&finding.found), "{}", finding.found);
        assert!(line.contains(r#""decision_phase":"intent""#));
    }
    assert!(text(open).contains("open:        2 without an outcome"));
}
