//! Computes the grade, a measure of how well a packet shows that the kernel enforced the boundary.
//!
//! Each condition that is not met caps the grade and adds a reason. The grade is the lowest cap.
use std::fmt;

/// The grades, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// The packet has no files about a boundary.
    None,
    /// The files about the boundary are not signed, or contradict each other.
    Unproven,
    /// The measurements are signed, but a part is missing. For example, a risk was accepted, the receipts do not bind
    /// the capsule, or the record is not complete.
    KernelObserved,
    /// Nothing is missing, but the signer of the boundary or of the receipts is not pinned.
    Unpinned,
    /// Nothing is missing, and the signers are pinned: every probe was denied or not applicable, the receipts sign the
    /// capsule, and the flow log shows the same programs and filters until the end of the command.
    KernelEnforced,
}

impl Grade {
    /// All grades, highest first.
    pub const ALL: [Self; 5] = [
        Self::KernelEnforced,
        Self::Unpinned,
        Self::KernelObserved,
        Self::Unproven,
        Self::None,
    ];

    /// Returns the word that is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Unproven => "unproven",
            Self::KernelObserved => "kernel_observed",
            Self::Unpinned => "unpinned",
            Self::KernelEnforced => "kernel_enforced",
        }
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::str::FromStr for Grade {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|grade| grade.as_str() == text);
        known.ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            format!("one of {words}")
        })
    }
}

/// A grade, and the reasons why it is not higher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graded {
    /// The grade.
    pub grade: Grade,
    /// Reasons why the grade is not higher. A reason for a lower grade comes first.
    pub reasons: Vec<String>,
}

/// The signers that the verifier pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pins {
    pub(super) boundary: bool,
    pub(super) receipts: bool,
}

#[derive(Debug, Default)]
pub(super) struct Caps(Vec<(Grade, String)>);

impl Caps {
    pub(super) fn cap(&mut self, at: Grade, reason: impl Into<String>) {
        self.0.push((at, reason.into()));
    }

    pub(super) fn unless(&mut self, met: bool, at: Grade, reason: &str) {
        if !met {
            self.cap(at, reason);
        }
    }

    /// Returns the grade as if every key were pinned.
    pub(super) fn shown(&self) -> Grade {
        let caps = self.0.iter().map(|(grade, _)| *grade);
        caps.min().unwrap_or(Grade::KernelEnforced)
    }

    /// Returns the grade for a verifier that pinned these signers.
    pub(super) fn graded(&self, pins: Pins) -> Graded {
        let mut caps: Vec<(Grade, &str)> = Vec::new();
        for (pinned, reason) in [
            (
                pins.boundary,
                "the signer of the boundary is not pinned with --boundary-key, so an unknown key may have signed the \
                 measurements",
            ),
            (
                pins.receipts,
                "the signer of the receipts is not pinned with --key, so an unknown key may have signed the receipts",
            ),
        ] {
            if !pinned {
                caps.push((Grade::Unpinned, reason));
            }
        }
        caps.extend(
            self.0
                .iter()
                .map(|(grade, reason)| (*grade, reason.as_str())),
        );
        caps.sort_by_key(|(grade, _)| *grade);
        Graded {
            grade: caps
                .first()
                .map_or(Grade::KernelEnforced, |(grade, _)| *grade),
            reasons: caps
                .into_iter()
                .map(|(_, reason)| reason.to_owned())
                .collect(),
        }
    }
}
