//! Advice about an exit status other than 0.
use std::path::{Path, PathBuf};

use audit_packet::grade::Grade;
use audit_packet::{PACKET_FILE, rules};
use pipelock_receipts::findings::{Severity, visible};
use pipelock_receipts::report::EvidenceVerdict;

use super::args::VerifyArgs;
use super::outcome::{Subject, VerifyOutcome};
use crate::cli::exit;

/// Maximum number of directory entries among which a packet is searched for.
const MOST_ENTRIES: usize = 1_000;

/// Returns the hint for this exit status, or an empty string.
pub(super) fn hint(outcome: &VerifyOutcome, args: &VerifyArgs, status: u8) -> String {
    match status {
        exit::END_UNPROVEN => {
            String::from("hint: use --allow-prefix to accept evidence whose end is not proven")
        }
        exit::INVALID => invalid(outcome, args),
        _ => String::new(),
    }
}

fn invalid(outcome: &VerifyOutcome, args: &VerifyArgs) -> String {
    if outcome.verdict == EvidenceVerdict::SelfConsistentOnly && !args.allow_unpinned {
        return String::from(
            "hint: use --key to pin the signer, or --allow-unpinned to accept evidence without a pinned key",
        );
    }
    if let Some(packet) = packet_below(outcome, &args.path) {
        let path = visible(&packet.to_string_lossy());
        return format!(
            "hint: this directory has no {PACKET_FILE}; the packet may be in it: egress verify {path}"
        );
    }
    if is_only_extra(outcome) {
        return String::from(
            "hint: everything that was signed is unchanged; only the files named above were added. Remove them and \
             verify again",
        );
    }
    let wanted = args.require_grade.unwrap_or(Grade::None);
    let grade = outcome.grade();
    if grade < wanted {
        return format!(
            "failed: --require-grade {wanted} is not met; the boundary is {grade} for the reasons above"
        );
    }
    String::new()
}

/// Whether files that are not part of the packet are the only error.
fn is_only_extra(outcome: &VerifyOutcome) -> bool {
    let mut errors = outcome
        .findings
        .iter()
        .filter(|finding| finding.rule.severity == Severity::Error)
        .peekable();
    errors.peek().is_some() && errors.all(|finding| finding.rule.id == rules::ATTESTATION_EXTRA.id)
}

/// Returns the only packet directly below `path`, if `path` itself is a directory without receipts.
fn packet_below(outcome: &VerifyOutcome, path: &Path) -> Option<PathBuf> {
    let has_receipts = outcome
        .report
        .as_ref()
        .is_some_and(|report| report.receipt_count > 0);
    if outcome.subject != Subject::Evidence || has_receipts {
        return None;
    }
    let entries = std::fs::read_dir(path).ok()?.take(MOST_ENTRIES);
    let mut packets = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|below| below.join(PACKET_FILE).is_file());
    let packet = packets.next()?;
    packets.next().is_none().then_some(packet)
}
