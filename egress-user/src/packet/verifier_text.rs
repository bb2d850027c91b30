//! The verifier's words: `verifier.txt`, and what `egress verify` prints.
//!
//! Every text from the evidence passes through `visible`: nothing in it can steer a terminal.
use std::fmt::Write;

use super::boundary::BoundaryReport;
use crate::receipt::findings::{Finding, visible};
use crate::receipt::report::{End, Report, Verdict};

/// The report of a check for people. `verdict` and `findings` may be those of a
/// whole packet; then there is a `boundary` too.
pub fn render(
    verdict: Verdict,
    report: &Report,
    findings: &[Finding],
    boundary: Option<&BoundaryReport>,
) -> String {
    let mut out = String::new();
    let written = write(&mut out, verdict, report);
    let written = written.and_then(|()| boundary.map_or(Ok(()), |it| write_boundary(&mut out, it)));
    let written = written.and_then(|()| write_findings(&mut out, report, findings));
    // Writing to a string cannot fail.
    written.map_or_else(|_error| String::new(), |()| out)
}

fn write(out: &mut String, verdict: Verdict, report: &Report) -> std::fmt::Result {
    writeln!(out, "verdict:     {}", headline(verdict, &report.end))?;
    if let End::Unproven(reason) = report.end
        && matches!(verdict, Verdict::Valid | Verdict::SelfConsistentOnly)
    {
        writeln!(out, "end:         {reason}")?;
    }
    writeln!(out, "receipts:    {}", report.receipt_count)?;
    if report.entries > 0 {
        writeln!(
            out,
            "entries:     {} ({} signed checkpoints)",
            report.entries, report.checkpoints
        )?;
    }
    let counts = &report.counts;
    write_actions(out, report)?;
    let totals: Vec<String> = counts
        .totals
        .buckets()
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    if !totals.is_empty() {
        writeln!(out, "by verdict:  {}", totals.join(", "))?;
    }
    if let Some(seq) = report.final_seq {
        writeln!(out, "final seq:   {seq}")?;
    }
    if let Some(root) = &report.root_hash {
        writeln!(out, "root hash:   {root}")?;
    }
    write_version_2(out, report)?;
    for key in &report.signer_keys {
        writeln!(out, "signer:      {}", visible(key))?;
    }
    if !report.recorder_session.is_empty() {
        writeln!(out, "session:     {}", visible(&report.recorder_session))?;
    }
    if let Some(session) = &report.session {
        writeln!(out, "run:         {}", visible(&session.run_nonce))?;
        if !session.posture_capsule_sha256.is_empty() {
            writeln!(
                out,
                "posture:     capsule {}",
                visible(&session.posture_capsule_sha256)
            )?;
        }
    }
    if !report.first_time.is_empty() {
        writeln!(out, "from:        {}", visible(&report.first_time))?;
        writeln!(out, "to:          {}", visible(&report.last_time))?;
    }
    Ok(())
}

/// Actions are fewer than receipts: says which receipts make the difference.
fn write_actions(out: &mut String, report: &Report) -> std::fmt::Result {
    let counts = &report.counts;
    write!(
        out,
        "actions:     {} ({} blocked)",
        counts.actions, counts.blocked_actions
    )?;
    let others = [
        (report.session_records, "session records"),
        (report.outcomes, "outcomes of announced actions"),
    ];
    let others: Vec<String> = others
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if !others.is_empty() {
        write!(out, "; the other receipts: {}", others.join(", "))?;
    }
    out.push('\n');
    if report.open_intents > 0 {
        writeln!(out, "open:        {} without outcome", report.open_intents)?;
    }
    Ok(())
}

/// The chain of version 2 receipts beside the main one.
fn write_version_2(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.evidence_receipts == 0 {
        return Ok(());
    }
    let seq = report.evidence_final_seq.unwrap_or(0);
    let root = report.evidence_root_hash.as_deref().unwrap_or("unknown");
    writeln!(
        out,
        "version 2:   {} receipts, final seq {seq}, root hash {root}\n  \
         a chain of its own: one receipt for each decision, none for session records. The packet \
         counts version 1 where there is one; some verifiers show these numbers instead.",
        report.evidence_receipts
    )
}

fn write_boundary(out: &mut String, boundary: &BoundaryReport) -> std::fmt::Result {
    writeln!(out, "boundary:    {}", boundary.graded.grade)?;
    for reason in &boundary.graded.reasons {
        writeln!(out, "  not higher: {}", visible(reason))?;
    }
    if let Some(signer) = &boundary.signer {
        writeln!(out, "attested by: {}", visible(signer))?;
    }
    if let Some(both) = &boundary.reconciliation {
        writeln!(
            out,
            "reconciled:  {} requests to the mediator, {} with a receipt; {} disagreements",
            both.asked,
            both.receipted,
            both.losses().len()
        )?;
        if both.said_alone > 0 {
            writeln!(
                out,
                "  said alone: {} receipts of requests inside TLS that only the mediator saw",
                both.said_alone
            )?;
        }
        let rows = [
            ("without receipt", &both.without_receipt),
            ("refused unasked", &both.refused),
            ("kernel", &both.kernel),
        ];
        for (what, counts) in rows {
            for (reason, count) in counts {
                writeln!(out, "  {what}: {count} {}", visible(reason))?;
            }
        }
    }
    if let Some(flows) = &boundary.flows {
        writeln!(out, "flow log:    {} lines", flows.lines)?;
    }
    Ok(())
}

fn write_findings(out: &mut String, report: &Report, findings: &[Finding]) -> std::fmt::Result {
    for finding in findings {
        write_finding(out, finding)?;
    }
    if report.suppressed > 0 {
        writeln!(out, "and {} more of the same rules", report.suppressed)?;
    }
    Ok(())
}

/// The findings alone, for a packet whose `packet.json` is unusable.
pub fn render_findings(findings: &[Finding]) -> String {
    let mut out = String::from("verdict:     INVALID\n");
    for finding in findings {
        // Writing to a string cannot fail.
        if write_finding(&mut out, finding).is_err() {
            break;
        }
    }
    out
}

/// The verdict in words.
fn headline(verdict: Verdict, end: &End) -> &'static str {
    match (verdict, end) {
        (Verdict::Valid, End::Proven) => "VALID, end proven",
        (Verdict::Valid, End::Unproven(_)) => "VALID PREFIX, end unproven",
        (Verdict::SelfConsistentOnly, End::Proven) => {
            "SELF-CONSISTENT ONLY, no key pinned; end consistent"
        }
        (Verdict::SelfConsistentOnly, End::Unproven(_)) => {
            "SELF-CONSISTENT ONLY, no key pinned; end unproven"
        }
        (Verdict::Invalid, _) => "INVALID",
        (Verdict::Error, _) => "NOTHING TO VERIFY",
    }
}

fn write_finding(out: &mut String, finding: &Finding) -> std::fmt::Result {
    let rule = finding.rule;
    write!(
        out,
        "{}: {} [{}]",
        rule.severity.as_str(),
        rule.says,
        rule.id
    )?;
    let place = finding.place.to_string();
    if !place.is_empty() {
        write!(out, " at {place}")?;
    }
    out.push('\n');
    if !finding.expected.is_empty() {
        writeln!(out, "  expected: {}", visible(&finding.expected))?;
    }
    if !finding.found.is_empty() {
        writeln!(out, "  found:    {}", visible(&finding.found))?;
    }
    if !rule.advice.is_empty() {
        writeln!(out, "  advice:   {}", rule.advice)?;
    }
    Ok(())
}
