//! Finds the reasons why the grade is not higher, in the capsule, the measurements, and the
//! receipts.
use pipelock_receipts::capsule::CapsuleReport;
use pipelock_receipts::findings::{Findings, Place};
use pipelock_receipts::report::{End, EvidenceReport, EvidenceVerdict};

use super::super::format::boundary::{BoundaryDocument, ProbeOutcome};
use super::super::grade::{Caps, Grade};
use super::super::model::{AUDIT_ENFORCEMENT, Packet};
use super::super::names::{BOUNDARY_FILE, PACKET_FILE};
use super::super::posture::NO_WAY_OUT;
use super::super::rules;

/// Checks that there is a capsule, that the receipts sign it, and that it names these kernel programs and filters.
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
    if !(containment.boundary_verified && containment.probe_refused_direct_egress) {
        caps.cap(Grade::KernelObserved, no_way_out(boundary_document));
    }
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

/// Returns the reason for a capsule that does not state that every way out was denied. The reason names the probes of
/// interfaces and routes that were not denied, because such a probe may be `not_applicable` and then has no cap.
fn no_way_out(boundary_document: Option<&BoundaryDocument>) -> String {
    let reason = "the posture capsule does not state that every way out was denied";
    let results = boundary_document.map_or(&[][..], |document| &document.probes.results);
    let others: Vec<String> = results
        .iter()
        .filter(|probe| NO_WAY_OUT.contains(&probe.name.as_str()))
        .filter(|probe| probe.outcome != ProbeOutcome::Denied)
        .map(|probe| format!("{}: {}", probe.name, probe.outcome))
        .collect();
    if others.is_empty() {
        reason.to_owned()
    } else {
        format!("{reason} ({})", others.join(", "))
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
        "the packet is from a run with --mode audit, so nothing was enforced",
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
        "no probe was run",
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

#[cfg(test)]
mod tests {
    use pipelock_receipts::capsule::{Claims, Containment, MODE, sign};
    use pipelock_receipts::chain::Trust;
    use pipelock_receipts::check::check_evidence;
    use pipelock_receipts::keys;

    use super::*;
    use crate::format::boundary::{Control, Mode, Probe, Probes};

    /// The facts from which these functions compute the caps of the grade.
    struct Facts {
        capsule: Option<CapsuleReport>,
        document: BoundaryDocument,
        report: EvidenceReport,
    }

    impl Facts {
        fn sound() -> Self {
            let probe = Probe {
                name: "udp_sendto".into(),
                outcome: ProbeOutcome::Denied,
                detail: "x".into(),
                control: Control {
                    succeeded: true,
                    detail: "x".into(),
                },
            };
            let document = BoundaryDocument {
                probes: Probes {
                    results: vec![probe],
                    ..Probes::default()
                },
                ..BoundaryDocument::default()
            };
            let claims = Claims {
                generated_at: String::from("2026-11-24T10:00:00Z"),
                expires_at: String::from("2026-11-24T12:00:00Z"),
                config_hash: "ab".repeat(32),
                containment: Containment {
                    mode: String::from(MODE),
                    boundary_verified: true,
                    probe_refused_direct_egress: true,
                    kernel_rule_hash: document.kernel_rule_hash(),
                    target_uid: String::from("7"),
                },
                launch: None,
            };
            let bytes = sign(claims, &keys::generate().unwrap()).bytes;
            let capsule = CapsuleReport {
                capsule: Some(pipelock_receipts::capsule::Capsule::parse(&bytes).unwrap()),
                is_trusted: true,
                is_bound: true,
                findings: Vec::new(),
            };
            let report = EvidenceReport {
                verdict: EvidenceVerdict::Valid,
                end: End::Proven,
                ..check_evidence(&[], &Trust::default())
            };
            Self {
                capsule: Some(capsule),
                document,
                report,
            }
        }

        fn containment(&mut self) -> &mut Option<Containment> {
            let capsule = self.capsule.as_mut().unwrap().capsule.as_mut();
            &mut capsule.unwrap().evidence.containment
        }

        fn probe(&mut self) -> &mut Probe {
            self.document.probes.results.first_mut().unwrap()
        }

        /// Returns the caps and the findings.
        fn caps(&self) -> (Caps, Findings) {
            let (mut caps, mut findings) = (Caps::default(), Findings::default());
            let document = Some(&self.document);
            grade_capsule(self.capsule.as_ref(), document, &mut findings, &mut caps);
            grade_boundary(&self.document, None, &mut findings, &mut caps);
            grade_receipts(&self.report, &mut caps);
            (caps, findings)
        }
    }

    type Break = fn(&mut Facts);

    /// Claims: grade-caps*, grade-none
    #[test]
    fn each_condition_that_does_not_hold_caps_the_grade_and_is_named() {
        let (caps, findings) = Facts::sound().caps();
        assert_eq!(caps.shown(), Grade::KernelEnforced);
        assert!(findings.into_ranked().0.is_empty());
        let breaks: [(&str, Grade, Break); 15] = [
            ("there is no posture capsule", Grade::Unproven, |facts| {
                facts.capsule = None;
            }),
            ("the receipts do not sign", Grade::KernelObserved, |facts| {
                facts.capsule.as_mut().unwrap().is_bound = false;
            }),
            ("does not describe a boundary", Grade::Unproven, |facts| {
                *facts.containment() = None;
            }),
            ("every way out was denied", Grade::KernelObserved, |facts| {
                facts.containment().as_mut().unwrap().boundary_verified = false;
            }),
            ("every way out was denied", Grade::KernelObserved, |facts| {
                let containment = facts.containment().as_mut().unwrap();
                containment.probe_refused_direct_egress = false;
            }),
            ("describes another mechanism", Grade::Unproven, |facts| {
                facts.containment().as_mut().unwrap().mode = String::from("proxy");
            }),
            ("with --mode audit", Grade::None, |facts| {
                facts.document.mode = Mode::Audit;
            }),
            ("probe udp_sendto", Grade::KernelObserved, |facts| {
                facts.probe().outcome = ProbeOutcome::Reachable;
            }),
            ("probe udp_sendto", Grade::KernelObserved, |facts| {
                facts.probe().outcome = ProbeOutcome::ControlFailed;
            }),
            ("probe udp_sendto", Grade::KernelObserved, |facts| {
                facts.probe().control.succeeded = false;
            }),
            ("no probe was run", Grade::KernelObserved, |facts| {
                facts.document.probes.results.clear();
            }),
            ("not complete: lost", Grade::KernelObserved, |facts| {
                facts.document.incomplete.push("lost".into());
            }),
            ("the receipts are invalid", Grade::Unproven, |facts| {
                facts.report.verdict = EvidenceVerdict::Invalid;
            }),
            ("there is no receipt", Grade::Unproven, |facts| {
                facts.report.verdict = EvidenceVerdict::Error;
            }),
            ("not proven: cut", Grade::KernelObserved, |facts| {
                facts.report.end = End::Unproven("cut");
            }),
        ];
        for (reason, grade, spoil) in breaks {
            let mut facts = Facts::sound();
            spoil(&mut facts);
            let (caps, _) = facts.caps();
            let pins = super::super::super::grade::Pins {
                boundary: true,
                receipts: true,
            };
            let graded = caps.graded(pins);
            assert_eq!(graded.grade, grade, "{reason}");
            let is_named = graded.reasons.len() == 1 && graded.reasons.concat().contains(reason);
            assert!(is_named, "{reason}: {:?}", graded.reasons);
        }
        // On a machine that has only lo, these two probes are not applicable.
        let mut facts = Facts::sound();
        let lo = NO_WAY_OUT.map(|name| Probe {
            name: name.into(),
            outcome: ProbeOutcome::NotApplicable,
            detail: "x".into(),
            control: Control::default(),
        });
        facts.document.probes.results.extend(lo);
        let containment = facts.containment().as_mut().unwrap();
        containment.probe_refused_direct_egress = false;
        let (caps, _) = facts.caps();
        let pins = super::super::super::grade::Pins {
            boundary: true,
            receipts: true,
        };
        assert_eq!(
            caps.graded(pins).reasons,
            [
                "the posture capsule does not state that every way out was denied \
                 (interface_other_than_lo: not_applicable, route: not_applicable)"
            ]
        );
        let mut facts = Facts::sound();
        facts.containment().as_mut().unwrap().kernel_rule_hash = "00".repeat(32);
        let found = facts.caps().1.into_ranked().0;
        let rules: Vec<_> = found.iter().map(|finding| finding.rule.id).collect();
        assert_eq!(rules, [rules::BOUNDARY_RULES.id]);
    }
}
