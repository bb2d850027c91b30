//! Judges what a packet says of the boundary: attestation, capsule, measurements and flow log
//! together, and the grade that follows.
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};

use super::attest::{self, AttestationReport, Predicate};
use super::counted::Counted;
use super::flows::{FlowReport, check_flows};
use super::grade::{Caps, Grade, Graded, Pins};
use super::joined::Joined;
use super::measured::Measured;
use super::model::Packet;
use super::reconcile::{Circumstances, Receipts, Reconciler, Reconciliation};
use super::statements::Statements;
use super::unbroken::Unbroken;
use super::{BOUNDARY_FILE, CAPSULE_FILE, FLOWS_FILE, rules};
use crate::policy::allowed::Allowed;
use crate::receipt::capsule::{Against, CapsuleReport, check as check_capsule};
use crate::receipt::findings::{Finding, Findings, Place, Severity};
use crate::receipt::report::{End, Report, Verdict};

/// The files that speak of the boundary; each may be absent.
#[derive(Debug, Clone, Copy, Default)]
pub struct BoundaryFiles<'a> {
    /// `boundary.json`.
    pub boundary: Option<&'a [u8]>,
    /// `flows.jsonl`.
    pub flows: Option<&'a [u8]>,
    /// `posture-capsule.json`.
    pub capsule: Option<&'a [u8]>,
    /// `identity.json`.
    pub identity: Option<&'a [u8]>,
    /// `policy.yaml`.
    pub policy: Option<&'a [u8]>,
    /// `changes.json`.
    pub changes: Option<&'a [u8]>,
    /// `attestation.json`.
    pub attestation: Attestation<'a>,
}

/// The signature over all files.
#[derive(Debug, Clone, Copy, Default)]
pub enum Attestation<'a> {
    /// There is none.
    #[default]
    Absent,
    /// It is being made now, by a key that the caller named or not.
    Pending {
        /// Whether the caller named the key.
        pinned: bool,
    },
    /// There it is, with name and SHA-256 of every other file of the packet.
    Present {
        /// Its bytes.
        bytes: &'a [u8],
        /// All other files.
        files: &'a [(String, String)],
    },
}

impl BoundaryReport {
    /// Lowers the grade to `unproven`: what contradicts itself elsewhere proves nothing here.
    pub fn disprove(&mut self) {
        if self.graded.grade > Grade::Unproven {
            self.graded.grade = Grade::Unproven;
            let reason = "the packet is invalid: see the errors";
            self.graded.reasons.insert(0, String::from(reason));
        }
    }
}

/// What the packet shows of the boundary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundaryReport {
    /// How far enforcement is shown, and what is missing.
    pub graded: Graded,
    /// The same for the keys that the writer of the packet had pinned.
    pub as_written: Graded,
    /// `boundary.json`, if it can be read.
    pub measured: Option<Measured>,
    /// Key that signed the attestation, if its signature holds.
    pub signer: Option<String>,
    /// The two recorders compared, when there is a flow log.
    pub reconciliation: Option<Reconciliation>,
    /// The check of the flow log, when there is one.
    pub flows: Option<FlowReport>,
    /// Everything found, also in the flow log.
    pub findings: Vec<Finding>,
}

/// Judges the boundary's files beside the `report` on the receipts and the rest of the `packet`. `keys` are the pinned
/// keys that the boundary may have signed with.
pub fn judge(
    files: &BoundaryFiles<'_>,
    packet: Option<&Packet>,
    report: &Report,
    receipts: &Receipts,
    keys: &[VerifyingKey],
) -> BoundaryReport {
    let mut findings = Findings::default();
    let mut caps = Caps::default();
    let measured = read_measured(files, &mut findings, &mut caps);
    let Seen {
        flows,
        unbroken,
        reconciler,
        counted,
        joined,
    } = read_flows(files, measured.as_ref(), report);
    let allowed = read_policy(files.policy, &mut findings);
    let around = Circumstances::of(measured.as_ref(), report.session.as_ref());
    let reconciliation = flows
        .as_ref()
        .map(|_| reconciler.finish(receipts, around, &allowed));
    let (attestation, is_pinned) = check_attestation(files, keys, &mut findings, &mut caps);
    let capsule = files.capsule.map(|bytes| {
        let against = Against {
            keys,
            session: report.session.as_ref(),
            first_time: &report.first_time,
            last_time: &report.last_time,
            clock_set: reconciliation
                .as_ref()
                .map_or(Duration::ZERO, |both| both.clock_set),
        };
        check_capsule(bytes, CAPSULE_FILE, against)
    });
    check_signers(
        report,
        capsule.as_ref(),
        attestation.as_ref(),
        measured.as_ref(),
        &mut findings,
    );
    let nothing = files.boundary.is_none() && capsule.is_none() && attestation.is_none();
    if nothing {
        caps.cap(Grade::None, "the packet says nothing of a boundary");
    }
    grade_capsule(
        capsule.as_ref(),
        measured.as_ref(),
        &mut findings,
        &mut caps,
    );
    grade_receipts(report, &mut caps);
    if let Some(measured) = &measured {
        check_flow_identity(files, flows.as_ref(), measured, &mut findings, &mut caps);
        grade_measured(measured, &mut caps);
    }
    let predicate = attestation
        .as_ref()
        .and_then(|report| report.predicate.as_ref());
    if let Some(measured) = measured.as_ref().filter(|one| one.mode != "audit") {
        let statements = Statements {
            packet,
            measured,
            boundary: files.boundary,
            counted: &counted,
            times: joined.times(),
            has_archive: match files.attestation {
                Attestation::Present { files, .. } => {
                    Some(files.iter().any(|(name, _)| name == super::CHANGES_ARCHIVE))
                }
                Attestation::Pending { .. } | Attestation::Absent => None,
            },
            capsule: capsule.as_ref().and_then(|report| report.capsule.as_ref()),
            predicate,
            identity: files.identity,
            policy: files.policy,
            changes: files.changes,
            reconciliation: reconciliation.as_ref(),
        };
        statements.check(&mut findings, &mut caps);
        for reason in joined.finish(measured) {
            caps.cap(Grade::KernelObserved, reason);
        }
    }
    let losses = reconciliation.iter().flat_map(Reconciliation::losses);
    for reason in unbroken.into_iter().chain(losses) {
        caps.cap(Grade::KernelObserved, reason);
    }
    let pins = Pins {
        boundary: is_pinned,
        receipts: report.verdict != Verdict::SelfConsistentOnly,
    };
    let written = predicate.zip(measured.as_ref());
    let writers_pins = written.map_or(pins, |(predicate, measured)| Pins {
        boundary: measured.attestation.pinned,
        receipts: predicate.verdict != Verdict::SelfConsistentOnly.as_str(),
    });
    if let Some(predicate) = predicate {
        check_predicate(predicate, report, caps.shown(), &mut findings);
    }
    let mut all = findings.into_ranked().0;
    all.extend(capsule.into_iter().flat_map(|capsule| capsule.findings));
    let signer = attestation.as_ref().and_then(|one| one.signer.clone());
    all.extend(attestation.into_iter().flat_map(|one| one.findings));
    all.extend(flows.iter().flat_map(|flows| flows.findings.clone()));
    if all
        .iter()
        .any(|finding| finding.rule.severity == Severity::Error)
    {
        caps.cap(
            Grade::Unproven,
            "what the packet says of the boundary does not hold together",
        );
    }
    BoundaryReport {
        graded: caps.graded(pins),
        as_written: caps.graded(writers_pins),
        measured,
        signer,
        reconciliation,
        flows,
        findings: all,
    }
}

/// The hosts that the packet's policy allows. Without a policy nothing can be held against it.
fn read_policy(policy: Option<&[u8]>, findings: &mut Findings) -> Allowed {
    let read = |bytes| {
        let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
        Allowed::read(text)
    };
    match policy.map(read) {
        None => Allowed::default(),
        Some(Ok(allowed)) => allowed,
        Some(Err(error)) => {
            let place = place(super::POLICY_FILE);
            findings.add(&rules::STATEMENT, place, "a policy", error);
            Allowed::default()
        }
    }
}

fn read_measured(
    files: &BoundaryFiles<'_>,
    findings: &mut Findings,
    caps: &mut Caps,
) -> Option<Measured> {
    let Some(bytes) = files.boundary else {
        caps.cap(Grade::Unproven, "there is no boundary.json");
        return None;
    };
    match Measured::read(bytes) {
        Ok(measured) => Some(measured),
        Err(error) => {
            findings.add(
                &rules::BOUNDARY_FORM,
                place(BOUNDARY_FILE),
                "measurements",
                error,
            );
            None
        }
    }
}

/// Checks the chain of the flow log and looks for breaks in the enforcement.
fn read_flows(files: &BoundaryFiles<'_>, measured: Option<&Measured>, report: &Report) -> Seen {
    let mut seen = Seen::default();
    let Some(bytes) = files.flows else {
        seen.unbroken = vec![String::from("there is no flow log")];
        return seen;
    };
    let nothing = Measured::default();
    let mut unbroken = Unbroken::new(measured.unwrap_or(&nothing));
    seen.flows = Some(check_flows(bytes, &mut |row| {
        unbroken.see(row);
        seen.reconciler.see(row);
        seen.counted.see(row);
        seen.joined.see(row);
    }));
    // Without a close the last receipt is only the agent's last action.
    let is_closed = report
        .session
        .as_ref()
        .is_some_and(|session| !session.close_reason.is_empty());
    let close = is_closed.then_some(report.last_time.as_str());
    seen.unbroken = unbroken.finish(close);
    seen
}

/// What the rows of the flow log show.
#[derive(Debug, Default)]
struct Seen {
    flows: Option<FlowReport>,
    unbroken: Vec<String>,
    reconciler: Reconciler,
    counted: Counted,
    joined: Joined,
}

/// The check of the attestation, and whether its signer is pinned. Without an attestation there is no signer to pin.
fn check_attestation(
    files: &BoundaryFiles<'_>,
    keys: &[VerifyingKey],
    findings: &mut Findings,
    caps: &mut Caps,
) -> (Option<AttestationReport>, bool) {
    match files.attestation {
        Attestation::Pending { pinned } => (None, pinned),
        Attestation::Absent => {
            caps.cap(
                Grade::Unproven,
                "there is no attestation: nobody signed the measurements",
            );
            if !keys.is_empty() {
                findings.add(
                    &rules::ATTESTATION_NONE,
                    rules::here(),
                    "a signature",
                    "none",
                );
            }
            (None, true)
        }
        Attestation::Present { bytes, files } => {
            let report = attest::check(bytes, files, keys);
            let is_known = |name: &str| super::PACKET_FILES.contains(&name);
            for (name, _) in files.iter().filter(|(name, _)| !is_known(name)) {
                let place = place(super::ATTESTATION_FILE);
                findings.add(
                    &rules::ATTESTATION_EXTRA,
                    place,
                    "a file of a packet",
                    name.as_str(),
                );
            }
            let is_trusted = report.is_trusted;
            (Some(report), is_trusted)
        }
    }
}

/// The signer of the attestation claims no more and no less than what is found. Which keys are pinned is the
/// verifier's choice, so it is left out.
fn check_predicate(predicate: &Predicate, report: &Report, shown: Grade, findings: &mut Findings) {
    let mut claim = |stated: &str, found: &str| {
        let place = place(super::ATTESTATION_FILE);
        findings.add(&rules::PREDICATE, place, found, stated);
    };
    let grade = predicate.grade.parse::<Grade>().ok();
    let fits = grade == Some(shown) || grade == Some(shown.min(Grade::Unpinned));
    if !fits {
        claim(&predicate.grade, shown.as_str());
    }
    let verdict = match report.verdict {
        // The run knows its own key; a verifier need not pin one.
        Verdict::SelfConsistentOnly | Verdict::Valid => ["valid", "self_consistent_only"],
        Verdict::Invalid => ["invalid", "invalid"],
        Verdict::Error => ["error", "error"],
    };
    if !verdict.contains(&predicate.verdict.as_str()) {
        claim(&predicate.verdict, report.verdict.as_str());
    }
}

/// One root of trust: the mediator signs the boundary's key in `session_open`, so that no other key can vouch for
/// the boundary, pinned or not. A mediator that binds none leaves the capsule's signer.
fn check_signers(
    report: &Report,
    capsule: Option<&CapsuleReport>,
    attestation: Option<&AttestationReport>,
    measured: Option<&Measured>,
    findings: &mut Findings,
) {
    let bound = report
        .session
        .as_ref()
        .map(|session| session.posture_signer_key_id.as_str())
        .filter(|key| !key.is_empty());
    let of_capsule = capsule
        .and_then(|report| report.capsule.as_ref())
        .map(|capsule| capsule.signer_key_id.as_str());
    let signer = attestation.and_then(|report| report.signer.as_deref());
    if let (Some(expected), Some(signer)) = (bound.or(of_capsule), signer)
        && expected != signer
    {
        let place = place(super::ATTESTATION_FILE);
        findings.add(&rules::ATTESTATION_SIGNER, place, expected, signer);
    }
    let stated = measured.map(|measured| measured.attestation.key.as_str());
    if let (Some(stated), Some(signer)) = (stated.filter(|key| !key.is_empty()), signer)
        && stated != signer
    {
        let expected = format!("attestation.key {stated}");
        let place = place(super::ATTESTATION_FILE);
        findings.add(&rules::STATEMENT, place, expected, signer);
    }
}

/// The capsule: there, bound by the receipts, and signed for these very programs.
fn grade_capsule(
    capsule: Option<&CapsuleReport>,
    measured: Option<&Measured>,
    findings: &mut Findings,
    caps: &mut Caps,
) {
    let Some(capsule) = capsule else {
        caps.cap(Grade::Unproven, "there is no posture capsule");
        return;
    };
    caps.unless(
        capsule.is_bound,
        Grade::KernelObserved,
        "the receipts do not sign the posture capsule",
    );
    let containment = capsule
        .capsule
        .as_ref()
        .and_then(|capsule| capsule.evidence.containment.as_ref());
    let Some(containment) = containment else {
        caps.cap(
            Grade::Unproven,
            "the posture capsule says nothing of a containment",
        );
        return;
    };
    caps.unless(
        containment.boundary_verified && containment.probe_refused_direct_egress,
        Grade::KernelObserved,
        "the posture capsule does not say that every way out was refused",
    );
    caps.unless(
        containment.mode == crate::receipt::capsule::MODE,
        Grade::Unproven,
        "the posture capsule speaks of another mechanism",
    );
    if let Some(measured) = measured {
        let computed = measured.kernel_rule_hash();
        if computed != containment.kernel_rule_hash {
            let stated = containment.kernel_rule_hash.as_str();
            findings.add(
                &rules::BOUNDARY_RULES,
                place(BOUNDARY_FILE),
                stated,
                computed,
            );
        }
    }
}

/// What was measured is what an enforced boundary shows.
fn grade_measured(measured: &Measured, caps: &mut Caps) {
    caps.unless(
        measured.mode != "audit",
        Grade::None,
        "it is of --mode audit: nothing was enforced",
    );
    for probe in measured.open_probes() {
        caps.cap(Grade::KernelObserved, format!("probe {probe}"));
    }
    caps.unless(
        !measured.probes.results.is_empty(),
        Grade::KernelObserved,
        "no probe was made",
    );
    for reason in &measured.incomplete {
        caps.cap(
            Grade::KernelObserved,
            format!("the record is not complete: {reason}"),
        );
    }
}

fn grade_receipts(report: &Report, caps: &mut Caps) {
    match report.verdict {
        Verdict::Valid | Verdict::SelfConsistentOnly => {}
        Verdict::Invalid => caps.cap(Grade::Unproven, "the receipts are invalid"),
        Verdict::Error => caps.cap(Grade::Unproven, "there is no receipt"),
    }
    if let End::Unproven(reason) = report.end {
        caps.cap(
            Grade::KernelObserved,
            format!("the end of the receipts is not proven: {reason}"),
        );
    }
}

/// `flows.jsonl` is the log whose digest, head and length `boundary.json` states.
fn check_flow_identity(
    files: &BoundaryFiles<'_>,
    flows: Option<&FlowReport>,
    measured: &Measured,
    findings: &mut Findings,
    caps: &mut Caps,
) {
    let (Some(bytes), Some(flows)) = (files.flows, flows) else {
        caps.cap(Grade::Unproven, "flows.jsonl is missing");
        return;
    };
    let stated = &measured.flows;
    let actual = hex::encode(Sha256::digest(bytes));
    for (stated, actual) in [
        (&stated.sha256, &actual),
        (&stated.head, &flows.head),
        (&stated.rows.to_string(), &flows.lines.to_string()),
    ] {
        if stated != actual {
            findings.add(
                &rules::BOUNDARY_FLOWS,
                place(FLOWS_FILE),
                stated.as_str(),
                actual.as_str(),
            );
        }
    }
}

fn place(file: &str) -> Place {
    Place {
        file: Some(String::from(file)),
        ..Place::default()
    }
}
