//! The outcome of a verification, and the errors that prevent one.
use std::io;
use std::path::{Path, PathBuf};

use audit_packet::boundary::BoundaryReport;
use audit_packet::grade::Grade;
use audit_packet::identity::Identity;
use audit_packet::model::Packet;
use egress_timestamp::{Problem, Stamp};
use pipelock_receipts::findings::{Finding, Place, Rule, Severity};
use pipelock_receipts::keys::KeyError;
use pipelock_receipts::report::{EvidenceReport, EvidenceVerdict};

use crate::cli::authorities::AuthorityError;
use crate::cli::exit;

/// The kind of evidence that was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Recorder files.
    Evidence,
    /// An Audit Packet.
    Packet,
    /// One receipt.
    Receipt,
}

/// The result of a verification.
#[derive(Debug)]
pub struct VerifyOutcome {
    /// The kind of evidence that was verified.
    pub subject: Subject,
    /// The overall verdict.
    pub verdict: EvidenceVerdict,
    /// All findings, the most important first.
    pub findings: Vec<Finding>,
    /// Result of checking the receipts. `None` if `packet.json` itself is unusable.
    pub report: Option<EvidenceReport>,
    /// Result of checking the boundary. `None` without a packet.
    pub boundary: Option<BoundaryReport>,
    /// The packet, if it can be read.
    pub packet: Option<Packet>,
    /// Identity of the run, if the packet has one.
    pub identity: Option<Identity>,
    /// Files for the check of the time stamp.
    pub(super) material: Option<Material>,
    /// The time stamp, or the reason why it is invalid. `None` if the packet has no time stamp.
    pub stamp: Option<Result<Stamp, Problem>>,
}

impl VerifyOutcome {
    /// Returns the outcome of receipts without a packet.
    pub(super) fn of_report(subject: Subject, report: EvidenceReport) -> Self {
        Self {
            subject,
            verdict: report.verdict,
            findings: report.findings.clone(),
            report: Some(report),
            boundary: None,
            packet: None,
            identity: None,
            material: None,
            stamp: None,
        }
    }

    /// Returns the grade of the boundary, which is [`Grade::None`] for evidence without a packet.
    pub fn grade(&self) -> Grade {
        self.boundary
            .as_ref()
            .map_or(Grade::None, |boundary| boundary.graded.grade)
    }

    /// Adds a finding. An error becomes the first finding and makes the outcome invalid.
    pub(super) fn add(&mut self, rule: &'static Rule, file: &str, expected: String, found: String) {
        let finding = Finding {
            rule,
            place: Place::in_file(file),
            expected,
            found,
        };
        if rule.severity == Severity::Error {
            self.findings.insert(0, finding);
            self.verdict = EvidenceVerdict::Invalid;
            if let Some(boundary) = &mut self.boundary {
                boundary.disprove();
            }
        } else {
            self.findings.push(finding);
        }
    }

    /// Returns the outcome of a packet that cannot be read.
    pub(super) fn unusable(findings: Vec<Finding>) -> Self {
        Self {
            subject: Subject::Packet,
            verdict: EvidenceVerdict::Invalid,
            findings,
            report: None,
            boundary: None,
            packet: None,
            identity: None,
            material: None,
            stamp: None,
        }
    }
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A key argument is not a key.
    #[error("cannot use {option} {argument}")]
    Key {
        /// Name of the option.
        option: &'static str,
        /// Value of the option, escaped.
        argument: String,
        /// Reason that the key parser gives.
        #[source]
        source: KeyError,
    },
    /// A certificate file cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A file of a packet is longer than its limit.
    #[error("{name} is longer than {most} bytes")]
    TooLarge {
        /// Name of the file.
        name: String,
        /// Size of the file, if it can be read.
        size: Option<u64>,
        /// Limit of the size.
        most: u64,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
}

impl VerifyError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    /// Returns the exit status for this error.
    pub(super) fn status(&self) -> u8 {
        match self {
            Self::Key {
                source: KeyError::Io { .. },
                ..
            }
            | Self::Read { .. }
            | Self::TooLarge { .. } => exit::CANNOT_READ,
            Self::Key { .. } => exit::USAGE,
            Self::Authority(error) => error.status(),
        }
    }
}

/// The files of a packet that the check of its time stamp needs.
#[derive(Debug)]
pub(super) struct Material {
    /// The bytes of `attestation.json` that the check of the other files used.
    pub(super) attestation: Option<Vec<u8>>,
    /// The bytes of `timestamp.tsr`, or why it cannot be read. `None` if the file does not exist.
    pub(super) reply: Option<Result<Vec<u8>, String>>,
}
