//! Renders an outcome as text or JSON.
use std::collections::BTreeMap;

use audit_packet::boundary::BoundaryReport;
use audit_packet::grade::Grade;
use audit_packet::reconcile::Reconciliation;
use audit_packet::verifier_text::{self, About, MOST_FINDINGS, MOST_REASONS, brief};
use egress_timestamp::Stamp;
use pipelock_receipts::report::{End, EvidenceVerdict};
use serde_json::{Value, json};

use super::args::VerifyArgs;
use super::hint::{self, hint};
use super::outcome::{Subject, VerifyOutcome};
use super::stamp;

/// Version of the JSON that `--json` prints, which `docs/schema/verify.schema.json` describes.
const JSON_VERSION: &str = "egress.verify.v1";

/// Returns the description of the packet's run for the text output.
fn about(outcome: &VerifyOutcome) -> Option<About<'_>> {
    let boundary = outcome.boundary.as_ref();
    outcome.packet.as_ref().map(|packet| About {
        packet,
        boundary_document: boundary.and_then(|boundary| boundary.boundary_document.as_ref()),
        identity: outcome.identity.as_ref().map(|identity| {
            let is_signed = boundary.is_some_and(|boundary| boundary.is_identity_signed);
            (identity, is_signed)
        }),
        // The attestation of a valid packet has the digest of its `packet.json`.
        is_packet_signed: Some(
            boundary.is_some_and(|boundary| boundary.is_attested)
                && outcome.verdict != EvidenceVerdict::Invalid,
        ),
    })
}

pub(super) fn as_text(outcome: &VerifyOutcome, args: &VerifyArgs, status: u8) -> String {
    if let Some(hint) = hint::instead(outcome, args) {
        return hint;
    }
    let mut text = match &outcome.report {
        Some(report) => verifier_text::render(
            outcome.verdict,
            report,
            &outcome.findings,
            outcome.boundary.as_ref(),
            about(outcome).as_ref(),
        ),
        None => verifier_text::render_findings(&outcome.findings),
    };
    text.push_str(&stamp::line(outcome));
    text.push_str(&hint(outcome, args, status));
    text
}

/// Returns the first [`MOST_REASONS`] reasons with their counts.
fn most(counts: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let most = counts.iter().take(MOST_REASONS);
    most.map(|(reason, count)| (brief(reason), *count))
        .collect()
}

/// Returns how many of these reasons [`most`] leaves out.
fn left_out(counts: [&BTreeMap<String, u64>; 3]) -> usize {
    let more = counts.map(|counts| counts.len().saturating_sub(MOST_REASONS));
    more.into_iter().sum()
}

fn of_boundary(boundary: &BoundaryReport) -> Value {
    let reasons = boundary.graded.reasons.iter().take(MOST_REASONS);
    let reasons: Vec<String> = reasons.map(|reason| brief(reason)).collect();
    json!({
        "grade": boundary.graded.grade.as_str(),
        "not_higher": reasons,
        "not_higher_left_out": boundary.graded.reasons.len().saturating_sub(MOST_REASONS),
        "attested_by": boundary.signer,
        "identity_signed": boundary.is_identity_signed,
        "reconciliation": boundary.reconciliation.as_ref().map(of_reconciliation),
        "flow_lines": boundary.flows.as_ref().map(|flows| flows.lines),
    })
}

fn of_reconciliation(both: &Reconciliation) -> Value {
    let disagreements = both.disagreements.iter();
    let disagreements: BTreeMap<&str, u64> = disagreements
        .map(|(what, count)| (what.id(), *count))
        .collect();
    json!({
        "asked": both.asked,
        "receipted": both.receipted,
        "without_receipt": most(&both.without_receipt),
        "unsigned": both.unsigned,
        "unasked": both.unasked,
        "unseen": both.unseen,
        "refused_unasked": most(&both.refused),
        "kernel": most(&both.kernel),
        "reasons_left_out": left_out([&both.without_receipt, &both.refused, &both.kernel]),
        "said_alone": both.said_alone,
        "disagreements": disagreements,
    })
}

pub(super) fn as_json(outcome: &VerifyOutcome, args: &VerifyArgs, status: u8) -> Value {
    let report = outcome.report.as_ref();
    let unmet = args
        .require_grade
        .filter(|wanted| outcome.grade() < *wanted);
    let end = report.map(|report| match report.end {
        End::Proven => json!({"proven": true}),
        End::Unproven(reason) => json!({"proven": false, "reason": reason}),
    });
    let findings: Vec<Value> = outcome
        .findings
        .iter()
        .take(MOST_FINDINGS)
        .map(|finding| {
            json!({
                "rule": finding.rule.id,
                "severity": finding.rule.severity.as_str(),
                "says": finding.rule.problem,
                "file": finding.place.file,
                "line": finding.place.line,
                "receipt": finding.place.seq,
                "expected": finding.expected,
                "found": finding.found,
                "advice": finding.rule.advice,
            })
        })
        .collect();
    json!({
        "schema_version": JSON_VERSION,
        "path": args.path.to_string_lossy(),
        "subject": match outcome.subject {
            Subject::Evidence => "evidence",
            Subject::Packet => "packet",
            Subject::Receipt => "receipt",
        },
        "verdict": outcome.verdict.as_str(),
        "exit": status,
        "unmet_grade": unmet.map(Grade::as_str),
        "end": end,
        "receipt_count": report.map(|report| report.receipt_count),
        "evidence_receipts": report.map(|report| report.evidence_receipts),
        "evidence_final_seq": report.and_then(|report| report.evidence_final_seq),
        "evidence_root_hash": report.and_then(|report| report.evidence_root_hash.as_deref()),
        "session_records": report.map(|report| report.session_records),
        "intents": report.map(|report| report.intents),
        "outcomes": report.map(|report| report.outcomes),
        "open_intents": report.map(|report| report.open_intents),
        "entries": report.map(|report| report.entries),
        "checkpoints": report.map(|report| report.checkpoints),
        "actions": report.map(|report| report.counts.actions),
        "blocked_actions": report.map(|report| report.counts.blocked_actions),
        "totals": report.map(|report| {
            let buckets = report.counts.totals.buckets();
            buckets.into_iter().map(|(name, count)| (String::from(name), json!(count))).collect::<serde_json::Map<_, _>>()
        }),
        "final_seq": report.and_then(|report| report.final_seq),
        "root_hash": report.and_then(|report| report.root_hash.as_deref()),
        "signer_keys": report.map(|report| &report.signer_keys),
        "recorder_session": report.map(|report| &report.recorder_session),
        "boundary": outcome.boundary.as_ref().map(of_boundary),
        "run": outcome.packet.as_ref().map(|packet| &packet.run),
        "identity": outcome.identity,
        "timestamp": outcome.stamp.as_ref().map(|stamp| json!({
            "time": stamp.as_ref().ok().map(Stamp::time_text),
            "authority": stamp.as_ref().ok().map(|stamp| &stamp.authority),
            "verified": stamp.as_ref().is_ok_and(|stamp| stamp.is_trusted),
            "problem": stamp.as_ref().err().map(ToString::to_string),
        })),
        "policy": outcome.packet.as_ref().map(|packet| &packet.policy),
        "machine": outcome.boundary.as_ref().and_then(|boundary| boundary.boundary_document.as_ref()).map(|boundary_document| json!({
            "release": boundary_document.kernel.release,
            "machine": boundary_document.kernel.machine,
            "egress": boundary_document.egress.version,
        })),
        "findings": findings,
        "findings_left_out": report
            .map_or(0, |report| report.suppressed)
            .saturating_add(outcome.findings.len().saturating_sub(MOST_FINDINGS)),
    })
}
