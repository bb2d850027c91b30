//! Finds the reasons why the grade is not higher, in the capsule, the measurements, and the
//! receipts.
use pipelock_receipts::capsule::CapsuleReport;
use pipelock_receipts::findings::{Findings, Place};
use pipelock_receipts::report::{End, EvidenceReport, EvidenceVerdict};

use super::super::format::boundary::BoundaryDocument;
use super::super::grade::{Caps, Grade};
use super::super::model::{AUDIT_ENFORCEMENT, Packet};
use super::super::names::{BOUNDARY_FILE, PACKET_FILE};
use super::super::rules;

/// Checks that there is a capsule, that the receipts bind it, and that it was signed for these kernel programs.
pub(super) fn grade_capsule(
    capsule: Option<&CapsuleReport>,
    boundary_document: Option<&BoundaryDocument>,
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
            "the posture capsule does not describe a boundary",
        );
        return;
    };
    caps.unless(
        containment.boundary_verified && containment.probe_refused_direct_egress,
        Grade::KernelObserved,
        "the posture capsule does not state that every way out was denied",
    );
    caps.unless(
        containment.mode == pipelock_receipts::capsule::MODE,
        Grade::Unproven,
        "the posture capsule describes another mechanism",
    );
    if let Some(boundary_document) = boundary_document {
        let computed = boundary_document.kernel_rule_hash();
        if computed != containment.kernel_rule_hash {
            let stated = containment.kernel_rule_hash.as_str();
            findings.add(
                &rules::BOUNDARY_RULES,
                Place::in_file(BOUNDARY_FILE),
                stated,
                computed,
            );
        }
    }
}

/// Checks that the measurements describe an enforced boundary.
pub(super) fn grade_boundary(
    boundary_document: &BoundaryDocument,
    packet: Option<&Packet>,
    findings: &mut Findings,
    caps: &mut Caps,
) {
    let is_audit = boundary_document.is_audit();
    caps.unless(
        !is_audit,
        Grade::None,
        "the packet is of --mode audit, so nothing was enforced",
    );
    let stated = packet.map(|packet| packet.posture.enforcement_mode.as_str());
    if let Some(stated) = stated.filter(|stated| is_audit && *stated != AUDIT_ENFORCEMENT) {
        let place = Place::in_file(BOUNDARY_FILE);
        let expected = format!("enforcement_mode {stated} of {PACKET_FILE}");
        findings.add(&rules::AUDIT, place, expected, "mode audit");
    }
    for probe in boundary_document.open_probes() {
        caps.cap(Grade::KernelObserved, format!("probe {probe}"));
    }
    caps.unless(
        !boundary_document.probes.results.is_empty(),
        Grade::KernelObserved,
        "no probe was made",
    );
    for reason in &boundary_document.incomplete {
        caps.cap(
            Grade::KernelObserved,
            format!("the record is not complete: {reason}"),
        );
    }
}

pub(super) fn grade_receipts(report: &EvidenceReport, caps: &mut Caps) {
    match report.verdict {
        EvidenceVerdict::Valid | EvidenceVerdict::SelfConsistentOnly => {}
        EvidenceVerdict::Invalid => caps.cap(Grade::Unproven, "the receipts are invalid"),
        EvidenceVerdict::Error => caps.cap(Grade::Unproven, "there is no receipt"),
    }
    if let End::Unproven(reason) = report.end {
        caps.cap(
            Grade::KernelObserved,
            format!("the end of the receipts is not proven: {reason}"),
        );
    }
}
