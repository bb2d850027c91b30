//! Renders the report of a check for `verifier.txt` and for the output of `egress verify`.
//!
//! Every text from the evidence passes through `visible`, so that it cannot control a terminal.
use std::fmt::Write;

use pipelock_receipts::findings::{Finding, visible};
use pipelock_receipts::report::{End, EvidenceReport, EvidenceVerdict};

use super::boundary::BoundaryReport;
use super::format::boundary::BoundaryDocument;
use super::identity::Identity;
use super::model::Packet;

/// Renders the report of a check: verdict and grade, then the findings, then the subject of the check and its numbers.
/// For a packet, `verdict` and `findings` are those of the packet. For evidence alone, `boundary` is `None`.
pub fn render(
    verdict: EvidenceVerdict,
    report: &EvidenceReport,
    findings: &[Finding],
    boundary: Option<&BoundaryReport>,
    about: Option<&About<'_>>,
) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    write_all(&mut out, verdict, report, findings, boundary, about)
        .map_or_else(|_error| String::new(), |()| out)
}

fn write_all(
    out: &mut String,
    verdict: EvidenceVerdict,
    report: &EvidenceReport,
    findings: &[Finding],
    boundary: Option<&BoundaryReport>,
    about: Option<&About<'_>>,
) -> std::fmt::Result {
    write_verdict(out, verdict, report)?;
    match boundary {
        Some(boundary) => write_grade(out, boundary)?,
        None => writeln!(
            out,
            "boundary:    none (evidence alone does not describe a boundary)"
        )?,
    }
    write_findings(out, report, findings)?;
    if let Some(about) = about {
        about.write(out)?;
    }
    write_numbers(out, report)?;
    boundary.map_or(Ok(()), |boundary| write_comparison(out, boundary))
}

/// The run and the machine of a packet, as the packet states them.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The packet.
    pub packet: &'a Packet,
    /// `boundary.json`, if it can be read.
    pub boundary_document: Option<&'a BoundaryDocument>,
    /// `identity.json`, and whether a pinned key signed its digest. `None` if only `packet.json` describes the run.
    pub identity: Option<(&'a Identity, bool)>,
    /// Whether a pinned key signed the digest of `packet.json`. `None` for the page in the packet, which does not depend
    /// on the pinned keys.
    pub is_packet_signed: Option<bool>,
}

impl About<'_> {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        let run = &self.packet.run;
        if let Some((identity, is_signed)) = self.identity {
            write_identity(out, identity, is_signed)?;
        } else {
            if let Some(is_signed) = self.is_packet_signed {
                write_signed(out, is_signed)?;
            }
            write_named(
                out,
                &[
                    ("repository", run.repository.as_deref()),
                    ("commit", run.sha.as_deref()),
                    ("ref", run.git_ref.as_deref()),
                    ("workflow", run.workflow.as_deref()),
                    ("run", run.run_id.as_deref()),
                    ("attempt", run.run_attempt.as_deref()),
                ],
            )?;
        }
        let end = run.completed_at.as_deref().unwrap_or("unknown");
        writeln!(
            out,
            "time:        {} to {}",
            visible(&run.started_at),
            visible(end)
        )?;
        let policy = &self.packet.policy;
        let mode = self.packet.scanner_config_snapshot.as_ref();
        let mode = mode
            .and_then(|config| config.mode.as_deref())
            .unwrap_or("unknown");
        let digest = policy
            .config_snapshot_sha256
            .as_deref()
            .unwrap_or("unknown");
        writeln!(
            out,
            "policy:      mode {}, sha256 {}",
            visible(mode),
            visible(digest)
        )?;
        if let Some(boundary_document) = self.boundary_document {
            let kernel = &boundary_document.kernel;
            writeln!(
                out,
                "machine:     Linux {} {}, egress {}",
                visible(&kernel.release),
                visible(&kernel.machine),
                visible(&boundary_document.egress.version)
            )?;
        }
        Ok(())
    }
}

/// Writes a line for each value that is present.
fn write_named(out: &mut String, named: &[(&str, Option<&str>)]) -> std::fmt::Result {
    for (name, value) in named {
        if let Some(value) = value {
            let value = visible(&brief(value));
            writeln!(out, "{:<12} {value}", format!("{name}:"))?;
        }
    }
    Ok(())
}

fn write_signed(out: &mut String, is_signed: bool) -> std::fmt::Result {
    let signed = if is_signed {
        "signed by a pinned key"
    } else {
        "not signed by a pinned key"
    };
    writeln!(out, "identity:    {signed}")
}

fn write_identity(out: &mut String, identity: &Identity, is_signed: bool) -> std::fmt::Result {
    write_signed(out, is_signed)?;
    write_named(
        out,
        &[
            ("provider", Some(&identity.provider)),
            ("repository", identity.repository.as_deref()),
            ("commit", identity.commit.as_deref()),
            ("ref", identity.git_ref.as_deref()),
            ("workflow", identity.workflow.as_deref()),
            ("job", identity.job.as_deref()),
            ("run", identity.run_id.as_deref()),
            ("attempt", identity.run_attempt.as_deref()),
            ("runner", identity.runner.as_deref()),
            ("image", identity.runner_image.as_deref()),
            ("nonce", identity.nonce.as_deref()),
        ],
    )?;
    for (key, value) in identity.bind.iter().take(MOST_REASONS) {
        writeln!(
            out,
            "bind:        {}={}",
            visible(&brief(key)),
            visible(&brief(value))
        )?;
    }
    let more = identity.bind.len().saturating_sub(MOST_REASONS);
    if more > 0 {
        writeln!(out, "bind:        {more} more values")?;
    }
    Ok(())
}

fn write_verdict(
    out: &mut String,
    verdict: EvidenceVerdict,
    report: &EvidenceReport,
) -> std::fmt::Result {
    writeln!(out, "verdict:     {}", headline(verdict, &report.end))?;
    if let End::Unproven(reason) = report.end
        && matches!(
            verdict,
            EvidenceVerdict::Valid | EvidenceVerdict::SelfConsistentOnly
        )
    {
        writeln!(out, "end:         {reason}")?;
    }
    Ok(())
}

fn write_numbers(out: &mut String, report: &EvidenceReport) -> std::fmt::Result {
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
        writeln!(out, "run nonce:   {}", visible(&session.run_nonce))?;
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

/// Writes the number of actions, and the receipts that are not counted as actions.
fn write_actions(out: &mut String, report: &EvidenceReport) -> std::fmt::Result {
    let counts = &report.counts;
    write!(
        out,
        "actions:     {} ({} denied)",
        counts.actions, counts.blocked_actions
    )?;
    let others = [
        (report.session_records, "session records"),
        (report.outcomes, "outcomes of allowed actions"),
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
        writeln!(
            out,
            "open:        {} without an outcome",
            report.open_intents
        )?;
    }
    Ok(())
}

/// Writes the facts about the chain of version 2 receipts, if it is not the main chain.
fn write_version_2(out: &mut String, report: &EvidenceReport) -> std::fmt::Result {
    if report.evidence_receipts == 0 {
        return Ok(());
    }
    let seq = report.evidence_final_seq.unwrap_or(0);
    let root = report.evidence_root_hash.as_deref().unwrap_or("unknown");
    writeln!(
        out,
        "version 2:   {} receipts, final seq {seq}, root hash {root}\n  \
         a separate chain: one receipt for each decision, none for session records. The packet counts \
         the version 1 chain if there is one; some verifiers show these numbers instead.",
        report.evidence_receipts
    )
}

/// Maximum number of reasons that are printed.
pub const MOST_REASONS: usize = 40;

/// Maximum number of findings that are printed.
pub const MOST_FINDINGS: usize = 100;

const MOST_CHARACTERS: usize = 500;

/// Returns at most `MOST_CHARACTERS` of a reason. A cut reason ends with `…`.
pub fn brief(reason: &str) -> String {
    let mut start: String = reason.chars().take(MOST_CHARACTERS).collect();
    if start.len() < reason.len() {
        start.push('…');
    }
    start
}

fn write_grade(out: &mut String, boundary: &BoundaryReport) -> std::fmt::Result {
    writeln!(out, "boundary:    {}", boundary.graded.grade)?;
    let reasons = &boundary.graded.reasons;
    for reason in reasons.iter().take(MOST_REASONS) {
        writeln!(out, "  not higher: {}", visible(&brief(reason)))?;
    }
    if let Some(more) = reasons
        .len()
        .checked_sub(MOST_REASONS)
        .filter(|more| *more > 0)
    {
        writeln!(out, "  not higher: {more} more reasons")?;
    }
    Ok(())
}

fn write_comparison(out: &mut String, boundary: &BoundaryReport) -> std::fmt::Result {
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
                "  not confirmed: {} receipts of requests inside TLS, which only the mediator can read",
                both.said_alone
            )?;
        }
        let rows = [
            ("without receipt", &both.without_receipt),
            ("denied by the relay", &both.refused),
            ("kernel", &both.kernel),
        ];
        for (what, counts) in rows {
            for (reason, count) in counts.iter().take(MOST_REASONS) {
                writeln!(out, "  {what}: {count} {}", visible(&brief(reason)))?;
            }
            if let Some(more) = counts
                .len()
                .checked_sub(MOST_REASONS)
                .filter(|more| *more > 0)
            {
                writeln!(out, "  {what}: {more} more reasons")?;
            }
        }
    }
    if let Some(flows) = &boundary.flows {
        writeln!(out, "flow log:    {} lines", flows.lines)?;
    }
    Ok(())
}

fn write_findings(
    out: &mut String,
    report: &EvidenceReport,
    findings: &[Finding],
) -> std::fmt::Result {
    for finding in findings.iter().take(MOST_FINDINGS) {
        write_finding(out, finding)?;
    }
    let more = findings.len().saturating_sub(MOST_FINDINGS);
    if more > 0 {
        writeln!(out, "and {more} more findings")?;
    }
    if report.suppressed > 0 {
        writeln!(out, "and {} more of the same rules", report.suppressed)?;
    }
    Ok(())
}

/// Renders only the findings, for a packet with an unusable `packet.json`.
pub fn render_findings(findings: &[Finding]) -> String {
    let mut out = String::from("verdict:     INVALID\n");
    for finding in findings.iter().take(MOST_FINDINGS) {
        // Writing to a string cannot fail.
        if write_finding(&mut out, finding).is_err() {
            break;
        }
    }
    out
}

fn headline(verdict: EvidenceVerdict, end: &End) -> &'static str {
    match (verdict, end) {
        (EvidenceVerdict::Valid, End::Proven) => "VALID, end proven",
        (EvidenceVerdict::Valid, End::Unproven(_)) => "VALID PREFIX, end unproven",
        (EvidenceVerdict::SelfConsistentOnly, End::Proven) => {
            "SELF-CONSISTENT ONLY, no key pinned; end consistent"
        }
        (EvidenceVerdict::SelfConsistentOnly, End::Unproven(_)) => {
            "SELF-CONSISTENT ONLY, no key pinned; end unproven"
        }
        (EvidenceVerdict::Invalid, _) => "INVALID",
        (EvidenceVerdict::Error, _) => "NOTHING TO VERIFY",
    }
}

fn write_finding(out: &mut String, finding: &Finding) -> std::fmt::Result {
    let rule = finding.rule;
    write!(
        out,
        "{}: {} [{}]",
        rule.severity.as_str(),
        rule.problem,
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
