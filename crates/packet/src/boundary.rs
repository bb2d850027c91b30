//! Checks the files of a packet about the boundary (attestation, capsule, measurements, and flow log) and computes the
//! grade.
use std::io::{self, BufReader};
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use egress_policy::allowed::Allowed;
use pipelock_receipts::capsule::{Against, CapsuleReport, check as check_capsule};
use pipelock_receipts::findings::{Finding, Findings, Place, Severity};
use pipelock_receipts::report::{EvidenceReport, EvidenceVerdict};

use super::activity::Activity;
use super::archive;
use super::attest::AttestationReport;
use super::changes_file::ReadChanges;
use super::flows::FlowReport;
use super::format::boundary::BoundaryDocument;
use super::grade::{Caps, Grade, Graded, Pins};
use super::held_back::HeldBack;
use super::model::Packet;
use super::names::{BOUNDARY_FILE, CAPSULE_FILE};
use super::reconcile::{Circumstances, Receipts, Reconciliation};
use super::rules;
use super::statements::Statements;
use super::stream::{CHUNK, FileDigest, Stream};

mod attested;
mod files;
mod flow_log;
mod grading;

pub use attested::Attestation;
use attested::{IdentityDigest, check_attestation, check_predicate, check_signers, writers_pins};
pub use files::{BoundaryFiles, PolicyFile, ReadPolicy};
use flow_log::FlowLog;
use grading::{grade_boundary, grade_capsule, grade_receipts};

impl BoundaryReport {
    /// Lowers the grade to `unproven`, because an error anywhere in a packet leaves the boundary without proof.
    pub fn disprove(&mut self) {
        if self.graded.grade > Grade::Unproven {
            self.graded.grade = Grade::Unproven;
            let reason = "the packet is invalid (see the errors)";
            self.graded.reasons.insert(0, String::from(reason));
        }
    }
}

/// The result of the check of a packet's boundary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundaryReport {
    /// The grade of the boundary, and the reasons why it is not higher.
    pub graded: Graded,
    /// The grade for a verifier that pins the same keys as the writer of the packet.
    pub as_written: Graded,
    /// `boundary.json`, if it can be read.
    pub boundary_document: Option<BoundaryDocument>,
    /// Key that signed the attestation, if the signature is valid.
    pub signer: Option<String>,
    /// Whether a pinned key of the boundary signed the attestation.
    pub is_attested: bool,
    /// Whether a pinned key signed the digest of `identity.json`. The boundary key signs it in the attestation. The
    /// signer key signs it indirectly, because the receipts sign the capsule, which contains the digest.
    pub is_identity_signed: bool,
    /// Comparison of the flow log with the receipts, if the rows of the log were read.
    pub reconciliation: Option<Reconciliation>,
    /// The hosts that the policy of the packet allows.
    pub allowed: Allowed,
    /// Check of the chain of the flow log, if its rows were read.
    pub flows: Option<FlowReport>,
    /// The traffic in the flow log, as the pages show it.
    pub activity: Activity,
    /// The changes that were not applied.
    pub held_back: HeldBack,
    /// All findings in the files about the boundary, including the flow log.
    pub findings: Vec<Finding>,
}

/// Checks the files of the boundary against the `report` on the receipts and the `packet`, and computes the grade.
/// `keys` are the pinned keys of the boundary.
pub fn judge(
    mut files: BoundaryFiles<'_>,
    packet: Option<&Packet>,
    report: &EvidenceReport,
    receipts: &Receipts,
    keys: &[VerifyingKey],
) -> BoundaryReport {
    let mut findings = Findings::default();
    let mut caps = Caps::default();
    let boundary_document = read_boundary_document(&files, &mut findings, &mut caps);
    let log = FlowLog::read(
        &mut files,
        boundary_document.as_ref(),
        packet,
        report,
        &mut findings,
        &mut caps,
    );
    let (flows, mut counted, joined) = (log.flows, log.counted, log.joined);
    let changes = files.changes.map(ReadChanges::read);
    let allowed = read_policy(files.policy, &mut findings);
    counted.settle(receipts, &allowed);
    let around = Circumstances::of(boundary_document.as_ref(), report);
    let reconciliation = flows
        .as_ref()
        .map(|_| log.reconciler.finish(receipts, around, &allowed));
    let is_attested = files.attestation.is_pinned();
    let identity = IdentityDigest::of(files.identity, &files.attestation);
    let archive = read_archive(
        files.archive.take(),
        changes.as_ref(),
        &mut files.attestation,
    );
    let has_archive = files.attestation.has(super::names::CHANGES_ARCHIVE);
    let (attestation, is_pinned) =
        check_attestation(files.attestation, keys, &mut findings, &mut caps);
    let capsule = read_capsule(files.capsule, keys, report, reconciliation.as_ref());
    let stated = boundary_document.as_ref();
    check_signers(
        report,
        capsule.as_ref(),
        attestation.as_ref(),
        stated,
        &mut findings,
    );
    if files.boundary.is_none() && capsule.is_none() && attestation.is_none() {
        caps.cap(Grade::None, "the packet has no files about a boundary");
    }
    grade_capsule(capsule.as_ref(), stated, &mut findings, &mut caps);
    grade_receipts(report, &mut caps);
    if let Some(boundary_document) = &boundary_document {
        grade_boundary(boundary_document, packet, &mut findings, &mut caps);
    }
    let predicate = attestation.as_ref().and_then(|one| one.predicate.as_ref());
    if let Some(boundary_document) = boundary_document.as_ref().filter(|one| !one.is_audit()) {
        let statements = Statements {
            packet,
            boundary_document,
            boundary: files.boundary,
            counted: &counted,
            connections: joined.connections(),
            times: joined.times(),
            has_archive,
            archive: archive.as_deref(),
            capsule: capsule.as_ref(),
            predicate,
            identity: files.identity,
            policy: files.policy.map(|policy| policy.bytes),
            allowed: &allowed,
            changes: changes.as_ref(),
            reconciliation: reconciliation.as_ref(),
        };
        statements.check(&mut findings, &mut caps);
        for reason in joined.finish(boundary_document, statements.proxy_port(), &allowed) {
            caps.cap(Grade::KernelObserved, reason);
        }
    }
    let losses = reconciliation.iter().flat_map(Reconciliation::losses);
    for reason in log.breaks.into_iter().chain(losses) {
        caps.cap(Grade::KernelObserved, reason);
    }
    let pins = Pins {
        boundary: is_pinned,
        receipts: report.verdict != EvidenceVerdict::SelfConsistentOnly,
    };
    let writers_pins = writers_pins(predicate, boundary_document.as_ref()).unwrap_or(pins);
    if let Some(predicate) = predicate {
        check_predicate(predicate, report, caps.shown(), &mut findings);
    }
    let signer = attestation.as_ref().and_then(|one| one.signer.clone());
    let is_identity_signed = identity.is_signed(report, capsule.as_ref());
    let all = all_findings(findings, capsule, attestation, flows.as_ref(), &mut caps);
    BoundaryReport {
        graded: caps.graded(pins),
        as_written: caps.graded(writers_pins),
        boundary_document,
        signer,
        is_attested,
        is_identity_signed,
        reconciliation,
        allowed,
        flows,
        activity: log.activity.with_inside_tls(receipts),
        held_back: HeldBack::of(changes.and_then(|changes| changes.document).as_ref()),
        findings: all,
    }
}

/// Hashes the archive of the changes that were not applied, and compares it with `changes.json`. Returns the first
/// difference.
fn read_archive(
    archive: Option<Result<Stream<'_>, String>>,
    changes: Option<&ReadChanges>,
    attestation: &mut Attestation,
) -> Option<String> {
    let name = super::names::CHANGES_ARCHIVE;
    let document = changes.and_then(|changes| changes.document.as_ref());
    let mut differs = None;
    let read = archive?.and_then(|mut stream| {
        let mut compare = || -> io::Result<()> {
            if let Some(document) = document {
                let mut buffered = BufReader::with_capacity(CHUNK, &mut stream);
                differs = archive::differs(&mut buffered, &document.changes)?;
            }
            stream.hash_rest()
        };
        compare().map_err(|error| error.to_string())?;
        Ok(stream.digest(name))
    });
    attestation.read(read.unwrap_or_else(|error| FileDigest::none(name, error)));
    differs
}

/// Checks the capsule against the receipts and the pinned keys of the boundary.
fn read_capsule(
    bytes: Option<&[u8]>,
    keys: &[VerifyingKey],
    report: &EvidenceReport,
    reconciliation: Option<&Reconciliation>,
) -> Option<CapsuleReport> {
    let clock_set = reconciliation.map_or(Duration::ZERO, |both| both.clock_set);
    let against = Against {
        keys,
        session: report.session.as_ref(),
        first_time: &report.first_time,
        last_time: &report.last_time,
        clock_set,
    };
    bytes.map(|bytes| check_capsule(bytes, CAPSULE_FILE, against))
}

/// Collects the findings in all files. If one of the findings is an error, the grade is at most
/// `unproven`.
fn all_findings(
    findings: Findings,
    capsule: Option<CapsuleReport>,
    attestation: Option<AttestationReport>,
    flows: Option<&FlowReport>,
    caps: &mut Caps,
) -> Vec<Finding> {
    let mut all = findings.into_ranked().0;
    all.extend(capsule.into_iter().flat_map(|capsule| capsule.findings));
    all.extend(attestation.into_iter().flat_map(|one| one.findings));
    all.extend(flows.iter().flat_map(|flows| flows.findings.clone()));
    let is_error = |finding: &Finding| finding.rule.severity == Severity::Error;
    if all.iter().any(is_error) {
        let reason = "the files of the packet about the boundary are inconsistent";
        caps.cap(Grade::Unproven, reason);
    }
    all
}

/// Reads the hosts that the packet's policy allows. Without a valid policy, hosts are not compared.
fn read_policy(policy: Option<PolicyFile<'_>>, findings: &mut Findings) -> Allowed {
    let read = |policy: PolicyFile<'_>| {
        let text = str::from_utf8(policy.bytes).map_err(|error| error.to_string())?;
        (policy.read)(text)
    };
    match policy.map(read) {
        None => Allowed::default(),
        Some(Ok(allowed)) => allowed,
        Some(Err(error)) => {
            let place = Place::in_file(super::names::POLICY_FILE);
            findings.add(&rules::STATEMENT, place, "a valid policy", error);
            Allowed::default()
        }
    }
}

fn read_boundary_document(
    files: &BoundaryFiles<'_>,
    findings: &mut Findings,
    caps: &mut Caps,
) -> Option<BoundaryDocument> {
    let Some(bytes) = files.boundary else {
        caps.cap(Grade::Unproven, "there is no boundary.json");
        return None;
    };
    match BoundaryDocument::read(bytes) {
        Ok(boundary_document) => Some(boundary_document),
        Err(error) => {
            findings.add(
                &rules::BOUNDARY_FORM,
                Place::in_file(BOUNDARY_FILE),
                "measurements",
                error,
            );
            None
        }
    }
}
