//! The sentence with which every page begins: verdict, grade, denied attempts, and changes that were held back.
use pipelock_receipts::report::End;

use super::grade::Grade;
use super::held_back::WORKFLOWS;
use super::model::PacketVerdict;
use super::shown::Shown;

/// How good the news is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// The receipts are valid, and the kernel enforced the boundary.
    Good,
    /// Something is missing.
    Warning,
    /// The packet proves nothing.
    Bad,
}

impl Tone {
    /// Returns the icon for Markdown.
    pub(super) const fn icon(self) -> &'static str {
        match self {
            Self::Good => "✅",
            Self::Warning => "⚠️",
            Self::Bad => "❌",
        }
    }
}

/// The first sentence of a page. It contains no text from the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Headline {
    pub(super) tone: Tone,
    pub(super) sentence: String,
}

impl Headline {
    pub(super) fn of(shown: &Shown<'_>) -> Self {
        let status = status(shown);
        let grade = shown.graded.grade;
        let is_valid = shown.packet.verifier.verdict == PacketVerdict::Valid;
        let is_proven = shown.report.end == End::Proven;
        let tone = match shown.packet.verifier.verdict {
            _ if shown.is_audit() => Tone::Warning,
            PacketVerdict::Invalid | PacketVerdict::Error | PacketVerdict::NotRun => Tone::Bad,
            _ if grade <= Grade::Unproven => Tone::Bad,
            _ if is_valid && is_proven && grade == Grade::KernelEnforced => Tone::Good,
            PacketVerdict::Valid | PacketVerdict::SelfConsistentOnly => Tone::Warning,
        };
        let mut sentence = format!("{status}: {}", denied(shown));
        if let Some(held) = held_back(shown) {
            sentence.push_str(", ");
            sentence.push_str(&held);
        }
        sentence.push('.');
        Self { tone, sentence }
    }
}

fn status(shown: &Shown<'_>) -> String {
    if shown.is_audit() {
        return String::from("Audit only, nothing was enforced");
    }
    let verdict = match (shown.packet.verifier.verdict, &shown.report.end) {
        (PacketVerdict::Valid, End::Proven) => "Valid",
        (PacketVerdict::Valid, End::Unproven(_)) => "Valid up to an unproven end",
        (PacketVerdict::SelfConsistentOnly, _) => {
            "Consistent, signed by a key that exists only for this run"
        }
        (PacketVerdict::Invalid, _) => "Invalid",
        (PacketVerdict::Error, _) => "No receipts to verify",
        (PacketVerdict::NotRun, _) => "Not verified",
    };
    format!("{verdict}, boundary {}", shown.graded.grade)
}

fn denied(shown: &Shown<'_>) -> String {
    let document = shown.boundary_document;
    let counts = || document.denied.iter().map(|row| row.count);
    let left_out = document.denied_left_out;
    // Each row that is left out counts at least one attempt. The listed rows have the highest counts, so each row that is
    // left out counts exactly one attempt if a listed row does.
    let attempts = counts().fold(left_out, u64::saturating_add);
    let at_least = if left_out == 0 || counts().min() == Some(1) {
        ""
    } else {
        "at least "
    };
    // An audit does not compare destinations with the policy.
    let (none, kind) = if shown.is_audit() {
        (
            "no attempt that every policy denies",
            "that every policy denies",
        )
    } else {
        ("nothing denied", "denied")
    };
    match attempts {
        0 => String::from(none),
        1 => format!("{at_least}1 attempt {kind}"),
        count => format!("{at_least}{count} attempts {kind}"),
    }
}

/// Returns the changes that were held back, if the run kept changes apart.
fn held_back(shown: &Shown<'_>) -> Option<String> {
    shown.boundary_document.workspace.changes.as_ref()?;
    let held = shown.held_back;
    let text = match held.count {
        0 if held.discarded > 0 => return Some(String::from("all changes discarded")),
        0 => return Some(String::from("no change held back")),
        1 => String::from("1 change held back"),
        count => format!("{count} changes held back"),
    };
    Some(match (held.workflows, held.count) {
        (0, _) => text,
        (1, 1) => format!("{text}, a write to {WORKFLOWS}"),
        (1, _) => format!("{text}, one of them a write to {WORKFLOWS}"),
        (count, _) => format!("{text}, {count} of them writes to {WORKFLOWS}"),
    })
}
