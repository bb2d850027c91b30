//! Checks the attestation of a packet: its files, its signer, and the statements of the signer.
use ed25519_dalek::VerifyingKey;
use pipelock_receipts::capsule::CapsuleReport;
use pipelock_receipts::findings::{Findings, Place};
use pipelock_receipts::report::{EvidenceReport, EvidenceVerdict};

use super::super::attest::{AttestationReport, Opened, Predicate};
use super::super::format::boundary::BoundaryDocument;
use super::super::grade::{Caps, Grade, Pins};
use super::super::names::{ATTESTATION_FILE, IDENTITY_FILE, PACKET_FILES};
use super::super::stream::FileDigest;
use super::super::{identity, rules};

/// The attestation of a packet.
#[derive(Debug, Default)]
pub enum Attestation {
    /// There is no attestation.
    #[default]
    Absent,
    /// The supervisor creates the attestation after this check.
    Pending {
        /// Whether the caller supplied the key that will sign.
        pinned: bool,
    },
    /// The packet has an attestation.
    Present {
        /// The attestation, with its signature already checked.
        opened: Box<Opened>,
        /// All other files of the packet, except the files that are read as streams.
        files: Vec<FileDigest>,
    },
}

impl Attestation {
    /// Adds the digest of a stream to the files.
    pub(in super::super) fn read(&mut self, digest: FileDigest) {
        let Self::Present { files, .. } = self else {
            return;
        };
        match files.iter_mut().find(|file| file.name == digest.name) {
            Some(file) if *file == digest => {}
            Some(file) => *file = FileDigest::none(&digest.name, "not a regular file"),
            None => files.push(digest),
        }
    }

    pub(super) fn sha256(&self, file: &str) -> Option<&str> {
        match self {
            Self::Present { opened, .. } => opened.sha256(file),
            Self::Absent | Self::Pending { .. } => None,
        }
    }

    /// Whether a pinned key signed the attestation.
    pub(super) fn is_pinned(&self) -> bool {
        matches!(self, Self::Present { opened, .. } if opened.is_trusted())
    }

    /// Whether the packet has a file of this name. Returns `None` if that is unknown.
    pub(super) fn has(&self, name: &str) -> Option<bool> {
        match self {
            Self::Present { files, .. } => Some(files.iter().any(|file| file.name == name)),
            Self::Pending { .. } | Self::Absent => None,
        }
    }
}

/// The digest of `identity.json`, and whether a pinned key of the boundary signed the digest.
#[derive(Debug)]
pub(super) struct IdentityDigest {
    digest: Option<String>,
    is_attested: bool,
}

impl IdentityDigest {
    pub(super) fn of(identity: Option<&[u8]>, attestation: &Attestation) -> Self {
        let digest = identity.map(identity::digest);
        let is_same = attestation.sha256(IDENTITY_FILE) == digest.as_deref();
        Self {
            is_attested: attestation.is_pinned() && is_same,
            digest,
        }
    }

    /// Returns whether a pinned key signed the digest: the boundary key, or the signer key of receipts that sign the
    /// capsule.
    pub(super) fn is_signed(
        &self,
        report: &EvidenceReport,
        capsule: Option<&CapsuleReport>,
    ) -> bool {
        let bound = capsule.filter(|capsule| capsule.is_bound);
        let bound = bound.and_then(|report| report.capsule.as_ref());
        let launch = bound.and_then(|capsule| capsule.evidence.contain_launch.as_ref());
        self.digest.as_ref().is_some_and(|digest| {
            let is_bound = launch.is_some_and(|launch| launch.env_sha256 == *digest);
            self.is_attested || (is_bound && report.verdict == EvidenceVerdict::Valid)
        })
    }
}

/// Returns whether the writer of an attested packet had pinned the signer of the boundary and the signer of the
/// receipts. Returns `None` without a valid attestation or without `boundary.json`.
pub(super) fn writers_pins(
    predicate: Option<&Predicate>,
    boundary_document: Option<&BoundaryDocument>,
) -> Option<Pins> {
    Some(Pins {
        boundary: boundary_document?.attestation.pinned,
        receipts: predicate?.verdict != EvidenceVerdict::SelfConsistentOnly.as_str(),
    })
}

/// Checks the attestation. Returns the report on the attestation, if the packet has one, and whether its signer is
/// pinned. For a pending attestation, the signer is the key that will sign. Without an attestation, the second value is
/// true, because the missing attestation already caps the grade.
pub(super) fn check_attestation(
    attestation: Attestation,
    keys: &[VerifyingKey],
    findings: &mut Findings,
    caps: &mut Caps,
) -> (Option<AttestationReport>, bool) {
    match attestation {
        Attestation::Pending { pinned } => (None, pinned),
        Attestation::Absent => {
            caps.cap(
                Grade::Unproven,
                "there is no attestation, so the measurements are not signed",
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
        Attestation::Present { opened, files } => {
            let is_strange = |name: &str| opened.names(name) && !PACKET_FILES.contains(&name);
            for file in files.iter().filter(|file| is_strange(&file.name)) {
                let (place, name) = (Place::in_file(ATTESTATION_FILE), file.name.as_str());
                findings.add(
                    &rules::ATTESTATION_EXTRA,
                    place,
                    "only files of a packet",
                    name,
                );
            }
            let report = opened.check(&files);
            let is_trusted = report.is_trusted;
            (Some(report), is_trusted)
        }
    }
}

/// Checks that the statements of the signer follow from the packet. The pinned keys are not
/// compared, because each verifier chooses them.
pub(super) fn check_predicate(
    predicate: &Predicate,
    report: &EvidenceReport,
    shown: Grade,
    findings: &mut Findings,
) {
    let mut claim = |stated: &str, found: &str| {
        let place = Place::in_file(ATTESTATION_FILE);
        findings.add(&rules::PREDICATE, place, found, stated);
    };
    let grade = predicate.grade.parse::<Grade>().ok();
    let fits = grade == Some(shown) || grade == Some(shown.min(Grade::Unpinned));
    if !fits {
        claim(&predicate.grade, shown.as_str());
    }
    let verdict = match report.verdict {
        // The writer and this verifier may have pinned different keys, and the pinned keys decide between these two
        // verdicts.
        EvidenceVerdict::SelfConsistentOnly | EvidenceVerdict::Valid => {
            ["valid", "self_consistent_only"]
        }
        EvidenceVerdict::Invalid => ["invalid", "invalid"],
        EvidenceVerdict::Error => ["error", "error"],
    };
    if !verdict.contains(&predicate.verdict.as_str()) {
        claim(&predicate.verdict, report.verdict.as_str());
    }
}

/// Checks that the attestation, the capsule, and `boundary.json` have the same signer. The mediator signs the
/// boundary key in `session_open`, so no other key can sign for the boundary, whether it is pinned or not. If the
/// mediator binds no key, the signer of the capsule counts.
pub(super) fn check_signers(
    report: &EvidenceReport,
    capsule: Option<&CapsuleReport>,
    attestation: Option<&AttestationReport>,
    boundary_document: Option<&BoundaryDocument>,
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
        let place = Place::in_file(ATTESTATION_FILE);
        findings.add(&rules::ATTESTATION_SIGNER, place, expected, signer);
    }
    let stated =
        boundary_document.map(|boundary_document| boundary_document.attestation.key.as_str());
    if let (Some(stated), Some(signer)) = (stated.filter(|key| !key.is_empty()), signer)
        && stated != signer
    {
        let expected = format!("attestation.key {stated}");
        let place = Place::in_file(ATTESTATION_FILE);
        findings.add(&rules::STATEMENT, place, expected, signer);
    }
}
