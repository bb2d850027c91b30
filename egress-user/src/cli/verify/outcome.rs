//! What a verification comes to, or why there is none.
use std::io;
use std::path::{Path, PathBuf};

use audit_packet::boundary::BoundaryReport;
use audit_packet::grade::Grade;
use audit_packet::identity::Identity;
use audit_packet::model::Packet;
use audit_packet::timestamp::{Problem, Stamp};
use pipelock_receipts::findings::{Finding, Place, Rule, Severity};
use pipelock_receipts::keys::KeyError;
use pipelock_receipts::report::{Report, Verdict};

use crate::cli::authorities::AuthorityError;
use crate::cli::exit;

/// What was verified.
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
pub struct Outcome {
    /// What was verified.
    pub subject: Subject,
    /// The verdict over everything.
    pub verdict: Verdict,
    /// All findings, most telling first.
    pub findings: Vec<Finding>,
    /// The check of the receipts; nothing when `packet.json` itself is unusable.
    pub report: Option<Report>,
    /// What a packet shows of the boundary.
    pub boundary: Option<BoundaryReport>,
    /// The packet, when it can be read.
    pub packet: Option<Packet>,
    /// Which run it is of, when the packet says that.
    pub identity: Option<Identity>,
    /// What the packet holds of a time stamp.
    pub(super) material: Option<Material>,
    /// What the time stamp states, or why it states nothing; nothing when there is none.
    pub stamp: Option<Result<Stamp, Problem>>,
}

impl Outcome {
    /// The outcome of receipts that come without a packet.
    pub(super) fn of_report(subject: Subject, report: Report) -> Self {
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

    /// What is shown of the boundary; evidence alone shows nothing.
    pub fn grade(&self) -> Grade {
        self.boundary
            .as_ref()
            .map_or(Grade::None, |boundary| boundary.graded.grade)
    }

    /// Adds a finding; an error comes first and makes the outcome invalid.
    pub(super) fn add(&mut self, rule: &'static Rule, file: &str, expected: String, found: String) {
        let finding = Finding {
            rule,
            place: Place::in_file(file),
            expected,
            found,
        };
        if rule.severity == Severity::Error {
            self.findings.insert(0, finding);
            self.verdict = Verdict::Invalid;
            if let Some(boundary) = &mut self.boundary {
                boundary.disprove();
            }
        } else {
            self.findings.push(finding);
        }
    }

    /// What there is to say of a packet that cannot be read.
    pub(super) fn unusable(findings: Vec<Finding>) -> Self {
        Self {
            subject: Subject::Packet,
            verdict: Verdict::Invalid,
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
    /// A key argument is no key.
    #[error("{option} {argument}")]
    Key {
        /// The option.
        option: &'static str,
        /// What was typed.
        argument: String,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// A certificate file is of no use.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
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

    /// The exit status.
    pub(super) fn status(&self) -> u8 {
        match self {
            Self::Key {
                source: KeyError::Io { .. },
                ..
            }
            | Self::Read { .. } => exit::CANNOT_READ,
            Self::Key { .. } => exit::USAGE,
            Self::Authority(error) => error.status(),
        }
    }
}

/// What a packet holds of a time stamp.
#[derive(Debug)]
pub(super) struct Material {
    /// `attestation.json`, as it was read for the check of the other files.
    pub(super) attestation: Option<Vec<u8>>,
    /// `timestamp.tsr`, or why it cannot be read; nothing where there is none.
    pub(super) reply: Option<Result<Vec<u8>, String>>,
}
