//! Checks an Audit Packet: its own rules, and whether the packet matches the evidence (evidence protocol, section 6).
//! This module also checks the members that Pipelock's verifiers do not check (section 6.3).
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::EvidenceCheck;
use pipelock_receipts::findings::{Finding, Findings, Severity};
use pipelock_receipts::json::{MAX_DEPTH, Node, Value, parse_bytes};
use pipelock_receipts::keys::parse_public;
use pipelock_receipts::report::{EvidenceReport, EvidenceVerdict};

use super::boundary::{BoundaryFiles, BoundaryReport, judge};
use super::inline::Inline;
use super::model::{AUDIT_ENFORCEMENT, Artifacts, Packet, PacketVerdict, SCHEMA_VERSION, totals};
use super::names::{SUMMARY_FILE, VERIFIER_FILE};
use super::reconcile::Receipts;
use super::rendered::{self, Found, Source};
use super::stream::{FileDigest, Stream};
use super::{display, policy_file, rules};

/// The files of a packet directory.
#[derive(Debug)]
pub struct PacketFiles<'a> {
    /// The evidence, or the reason why it cannot be read.
    pub evidence: Result<Stream<'a>, String>,
    /// `policy.yaml`, if there is one.
    pub policy: Option<&'a [u8]>,
    /// The files about the boundary.
    pub boundary: BoundaryFiles<'a>,
    /// The pages for people.
    pub pages: Found<'a>,
    /// SHA-256 of `packet.json`, lowercase hex.
    pub packet_sha256: &'a str,
}

/// The pinned keys.
#[derive(Debug, Clone, Default)]
pub struct Pinned {
    /// Keys of the receipts.
    pub receipts: Trust,
    /// Keys of the boundary.
    pub boundary: Vec<VerifyingKey>,
}

/// The result of the check of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketReport {
    /// Verdict of the whole packet.
    pub verdict: EvidenceVerdict,
    /// Findings in the packet and its files, causes before their consequences.
    pub findings: Vec<Finding>,
    /// Check of the receipts. The findings of that check are also in `findings`.
    pub evidence: EvidenceReport,
    /// Check of the boundary.
    pub boundary: BoundaryReport,
}

/// Reads `packet.json` and checks the rules that need no other file (section 6.1).
///
/// # Errors
/// Returns the findings that make the file unusable.
pub fn read_packet(bytes: &[u8]) -> Result<Packet, Vec<Finding>> {
    let mut findings = Findings::default();
    let node = match parse_bytes(bytes, MAX_DEPTH) {
        Ok(node) => node,
        Err(error) => {
            findings.add(
                &rules::JSON,
                rules::here(),
                "one JSON object",
                error.to_string(),
            );
            return Err(findings.into_ranked().0);
        }
    };
    if let Some(member) = null_member(&node) {
        findings.add(
            &rules::SCHEMA,
            rules::here(),
            "a value, or no such member",
            format!("{member}: null"),
        );
    }
    match node.typed::<Packet>() {
        Err(error) => findings.add(
            &rules::SCHEMA,
            rules::here(),
            SCHEMA_VERSION,
            error.to_string(),
        ),
        Ok(packet) => {
            check_rules(&packet, &mut findings);
            if !findings.has_errors() {
                return Ok(packet);
            }
        }
    }
    Err(findings.into_ranked().0)
}

/// Checks a packet against its files.
pub fn check_packet(packet: &Packet, files: PacketFiles<'_>, pinned: &Pinned) -> PacketReport {
    let trust = &pinned.receipts;
    let mut files = files;
    let (pages, packet_sha256) = (files.pages, files.packet_sha256);
    let mut findings = Findings::default();
    let mut receipts = Receipts::default();
    let mut inline = Inline::new(packet.receipts.as_deref().unwrap_or_default());
    let mut check = EvidenceCheck::new(trust, false);
    let read = files.evidence.as_mut().map_err(|error| error.clone());
    let read = read.and_then(|stream| {
        let read = check.file(super::names::EVIDENCE_FILE, stream, &mut |seen| {
            if !seen.is_twin {
                inline.see(seen);
            }
            receipts.see(seen);
        });
        read.map_err(|error| error.to_string())
    });
    let name = packet.artifacts.evidence.as_str();
    files.boundary.attestation.read(match &files.evidence {
        Ok(stream) => stream.digest(name),
        Err(error) => FileDigest::none(name, error),
    });
    if let Err(reason) = read {
        findings.add(&rules::EVIDENCE, rules::here(), name, reason);
        return without_evidence(packet, files.boundary, findings, pinned);
    }
    let report = check.finish();
    // If the evidence was not read to its end, its numbers are not complete, so they are not compared.
    if report.is_whole {
        inline.finish(&mut findings);
        check_counts(packet, &report, &mut findings);
        check_end(packet, &report, trust, &mut findings);
        display::check(packet, &report, &mut findings);
    }
    check_artifacts(packet, &pages, &mut findings);
    let policy = files.policy;
    let mut boundary = judge(
        files.boundary,
        Some(packet),
        &report,
        &receipts,
        &pinned.boundary,
    );
    if let Some(policy) = policy {
        policy_file::check(
            packet,
            policy,
            &report,
            boundary.boundary_document.as_ref(),
            &mut findings,
        );
    }
    let compared = boundary.reconciliation.as_ref();
    let clock_set = compared.map_or(Duration::ZERO, |compared| compared.clock_set);
    display::times(packet, clock_set, &mut findings);
    let mut verdict = verdict(packet, &report, &boundary, &mut findings);
    if matches!(
        verdict,
        EvidenceVerdict::Valid | EvidenceVerdict::SelfConsistentOnly
    ) {
        check_pages(
            packet,
            (&pages, packet_sha256),
            &report,
            &boundary,
            &mut findings,
        );
        if findings.has_errors() {
            verdict = EvidenceVerdict::Invalid;
        }
    }
    if matches!(verdict, EvidenceVerdict::Invalid | EvidenceVerdict::Error) {
        boundary.disprove();
    }
    let mut all = findings.into_ranked().0;
    all.extend(report.findings.iter().cloned().map(|mut finding| {
        finding
            .place
            .file
            .get_or_insert_with(|| packet.artifacts.evidence.clone());
        finding
    }));
    all.extend(boundary.findings.iter().cloned());
    all.sort_by_key(|finding| {
        (
            finding.rule.severity,
            finding.rule.rank,
            finding.place.clone(),
        )
    });
    PacketReport {
        verdict,
        findings: all,
        evidence: report,
        boundary,
    }
}

/// Returns the report on a packet whose evidence cannot be read.
fn without_evidence(
    packet: &Packet,
    files: BoundaryFiles<'_>,
    findings: Findings,
    pinned: &Pinned,
) -> PacketReport {
    let report = EvidenceCheck::new(&pinned.receipts, false).finish();
    let receipts = Receipts::default();
    let mut boundary = judge(files, Some(packet), &report, &receipts, &pinned.boundary);
    boundary.disprove();
    let mut all = findings.into_ranked().0;
    all.extend(boundary.findings.iter().cloned());
    PacketReport {
        verdict: EvidenceVerdict::Invalid,
        findings: all,
        evidence: report,
        boundary,
    }
}

/// Returns the first member outside inline receipts whose value is `null`. The schema does not
/// allow `null`.
fn null_member(node: &Node<'_>) -> Option<String> {
    match &node.value {
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| name != "receipts")
            .find_map(|(name, node)| {
                if node.is_null() {
                    Some(name.to_string())
                } else {
                    null_member(node)
                }
            }),
        Value::Array(items) => items.iter().find_map(null_member),
        Value::Null | Value::Bool(_) | Value::Number | Value::String(_) => None,
    }
}

/// Checks the rules that the schema cannot express (section 6.1).
fn check_rules(packet: &Packet, findings: &mut Findings) {
    if packet.posture.enforcement_mode == AUDIT_ENFORCEMENT {
        let found = packet.posture.enforcement_mode.as_str();
        findings.add(&rules::AUDIT, rules::here(), "an enforced boundary", found);
    }
    let mut broken =
        |expected: &str, found: String| findings.add(&rules::RULE, rules::here(), expected, found);
    if packet.schema_version != SCHEMA_VERSION {
        broken(SCHEMA_VERSION, packet.schema_version.clone());
    }
    for (name, text) in [
        ("run.agent_identity", &packet.run.agent_identity),
        ("run.started_at", &packet.run.started_at),
        ("posture.enforcement_mode", &packet.posture.enforcement_mode),
        ("posture.runner_os", &packet.posture.runner_os),
    ] {
        if text.is_empty() {
            broken("a non-empty string", format!("{name} is empty"));
        }
    }
    let counts = packet.summary.totals.counts();
    let sum = counts
        .iter()
        .try_fold(0_u64, |sum, count| sum.checked_add(*count));
    if sum != Some(packet.summary.receipt_count) {
        let sum = sum.map_or_else(|| String::from("more than 2^64"), |sum| sum.to_string());
        broken(
            "totals that add up to summary.receipt_count",
            format!("{sum} and {}", packet.summary.receipt_count),
        );
    }
    if let Some(domains) = &packet.summary.domains_touched
        && domains
            .iter()
            .zip(domains.iter().skip(1))
            .any(|(one, next)| one >= next)
    {
        broken(
            "domains_touched in ascending order, each once",
            domains.join(" "),
        );
    }
    let verifier = &packet.verifier;
    let is_valid = verifier.verdict == PacketVerdict::Valid;
    if verifier.trusted != is_valid {
        broken(
            "trusted if and only if valid",
            format!("trusted {}", verifier.trusted),
        );
    }
    if is_valid && verifier.signer_key.as_deref().unwrap_or("").is_empty() {
        broken(
            "verifier.signer_key of a valid packet",
            String::from("none"),
        );
    }
    if verifier.signer_key.as_deref() == Some("") {
        broken(
            "a verifier.signer_key that is not empty",
            String::from("an empty string"),
        );
    }
    check_paths(&packet.artifacts, findings);
}

/// Checks that the paths of artifacts do not lead out of the packet directory.
fn check_paths(artifacts: &Artifacts, findings: &mut Findings) {
    let summary = artifacts.summary.as_deref();
    let paths = [&artifacts.packet, &artifacts.evidence, &artifacts.verifier];
    for path in paths.into_iter().map(String::as_str).chain(summary) {
        let leaves = path.is_empty()
            || path == "."
            || path.starts_with('/')
            || path.contains([':', '\\', '\0'])
            || path.split('/').any(|part| part == "..");
        if leaves {
            findings.add(
                &rules::PATH,
                rules::here(),
                "a relative path below the packet",
                path,
            );
        }
    }
}

fn check_counts(packet: &Packet, report: &EvidenceReport, findings: &mut Findings) {
    if packet.summary.receipt_count != report.receipt_count {
        findings.add(
            &rules::COUNT,
            rules::here(),
            format!("receipt_count {}", report.receipt_count),
            packet.summary.receipt_count.to_string(),
        );
    }
    let stated = packet.summary.totals.counts();
    for ((name, actual), stated) in totals(report).buckets().into_iter().zip(stated) {
        if actual != stated {
            findings.add(
                &rules::COUNT,
                rules::here(),
                format!("totals.{name} {actual}"),
                stated.to_string(),
            );
        }
    }
    if let Some(count) = packet.verifier.receipt_count
        && count != report.receipt_count
    {
        let expected = format!("verifier.receipt_count {}", report.receipt_count);
        findings.add(&rules::COUNT, rules::here(), expected, count.to_string());
    }
}

/// Compares the root, the last sequence number, and the signer with the evidence.
fn check_end(packet: &Packet, report: &EvidenceReport, trust: &Trust, findings: &mut Findings) {
    let root = packet.verifier.root_hash.as_deref().unwrap_or("");
    if !root.is_empty() && report.root_hash.as_deref() != Some(root) {
        let expected = report.root_hash.as_deref().unwrap_or("no root");
        findings.add(&rules::ROOT, rules::here(), expected, root);
    }
    if let Some(seq) = packet.verifier.final_seq
        && report.final_seq != Some(seq)
    {
        let expected = report
            .final_seq
            .map_or_else(|| String::from("none"), |seq| seq.to_string());
        findings.add(
            &rules::ROOT,
            rules::here(),
            format!("final_seq {expected}"),
            seq.to_string(),
        );
    }
    let Some(stated) = packet.verifier.signer_key.as_deref() else {
        return;
    };
    let signers = &report.signer_keys;
    let fits = parse_public(stated).is_ok_and(|key| {
        let pinned = trust.keys.is_empty() || trust.keys.contains(&key);
        let digits = hex::encode(key.to_bytes());
        pinned
            && stated.eq_ignore_ascii_case(&digits)
            && (signers.is_empty() || signers.contains(&digits))
    });
    if !fits {
        findings.add(&rules::SIGNER, rules::here(), signers.join(" or "), stated);
    }
}

/// Checks that the files that `packet.json` names exist. Another rule reports missing evidence.
fn check_artifacts(packet: &Packet, pages: &Found<'_>, findings: &mut Findings) {
    let artifacts = &packet.artifacts;
    let named = [
        (
            Some(artifacts.verifier.as_str()),
            VERIFIER_FILE,
            pages.verifier,
        ),
        (
            packet.verifier.output_file.as_deref(),
            VERIFIER_FILE,
            pages.verifier,
        ),
        (artifacts.summary.as_deref(), SUMMARY_FILE, pages.summary),
    ];
    for (stated, name, found) in named {
        if let Some(stated) = stated
            && (stated != name || found.is_none())
        {
            findings.add(&rules::ARTIFACT, rules::here(), name, stated);
        }
    }
}

/// Checks that the pages of a packet with an attestation are the pages that egress renders from the
/// packet.
fn check_pages(
    packet: &Packet,
    (pages, packet_sha256): (&Found<'_>, &str),
    report: &EvidenceReport,
    boundary: &BoundaryReport,
    findings: &mut Findings,
) {
    if boundary.signer.is_none() {
        return;
    }
    // The writer of a packet with the verdict `valid` pinned the signer key, so the pages show that verdict, even if
    // this verifier does not pin the key.
    let verdict = if packet.verifier.verdict == PacketVerdict::Valid {
        EvidenceVerdict::Valid
    } else {
        report.verdict
    };
    let source = Source {
        packet,
        packet_sha256,
        report,
        verdict,
        boundary,
    };
    rendered::check(&source, pages, findings);
}

fn verdict(
    packet: &Packet,
    report: &EvidenceReport,
    boundary: &BoundaryReport,
    findings: &mut Findings,
) -> EvidenceVerdict {
    let consistent = report.is_consistent();
    let stated = packet.verifier.verdict;
    let agrees = match stated {
        PacketVerdict::Valid | PacketVerdict::SelfConsistentOnly => consistent,
        PacketVerdict::Invalid => !consistent,
        // Evidence without a receipt also has the verdict `error`.
        PacketVerdict::Error => report.verdict == EvidenceVerdict::Error,
        PacketVerdict::NotRun => true,
    };
    if !agrees {
        let shows = report.verdict.as_str();
        findings.add(
            &rules::VERDICT,
            rules::here(),
            format!("the evidence is {shows}"),
            stated.word(),
        );
    }
    if report.verdict == EvidenceVerdict::Error && !findings.has_errors() {
        return EvidenceVerdict::Error;
    }
    let is_error = |finding: &Finding| finding.rule.severity == Severity::Error;
    if !consistent || findings.has_errors() || boundary.findings.iter().any(is_error) {
        return EvidenceVerdict::Invalid;
    }
    match stated {
        PacketVerdict::Valid => report.verdict,
        PacketVerdict::NotRun | PacketVerdict::SelfConsistentOnly => {
            EvidenceVerdict::SelfConsistentOnly
        }
        PacketVerdict::Error | PacketVerdict::Invalid => EvidenceVerdict::Invalid,
    }
}
