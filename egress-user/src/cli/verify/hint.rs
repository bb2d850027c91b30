//! Advice about an exit status other than 0.
use std::path::{Path, PathBuf};

use audit_packet::grade::Grade;
use audit_packet::{PACKET_FILE, rules};
use pipelock_receipts::findings::{Finding, Severity, visible};
use pipelock_receipts::report::EvidenceVerdict;

use super::args::VerifyArgs;
use super::evidence::part_of_a_packet;
use super::outcome::{Subject, VerifyOutcome};
use crate::cli::exit;

/// Maximum number of directory entries among which a packet is searched for.
const MOST_ENTRIES: usize = 1_000;

/// Maximum number of added files that are named.
const MOST_NAMES: usize = 5;

/// Files that a file manager adds to a directory when it shows the directory, and the name of that file manager.
const DROPPED: [(&str, &str); 3] = [
    (".DS_Store", "the macOS Finder"),
    ("Thumbs.db", "Windows Explorer"),
    ("desktop.ini", "Windows Explorer"),
];

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

/// Returns the hint that replaces the whole text: the path names a directory without any evidence, and the packet is in a
/// directory below it.
pub(super) fn instead(outcome: &VerifyOutcome, args: &VerifyArgs) -> Option<String> {
    let is_empty = outcome
        .report
        .as_ref()
        .is_some_and(|report| report.entries == 0)
        && part_of_a_packet(&args.path).is_none();
    let packet = packet_below(outcome, &args.path).filter(|_| is_empty)?;
    Some(below(&packet))
}

/// Returns the hint about the packet in a directory below the given one.
fn below(packet: &Path) -> String {
    let path = visible(&packet.to_string_lossy());
    format!(
        "hint: this directory has no {PACKET_FILE}; the packet may be in a directory below it: egress verify {path}"
    )
}

fn invalid(outcome: &VerifyOutcome, args: &VerifyArgs) -> String {
    if outcome.verdict == EvidenceVerdict::SelfConsistentOnly && !args.allow_unpinned {
        return String::from(
            "hint: use --key to pin the signer, or --allow-unpinned to accept evidence without a pinned key",
        );
    }
    if let Some(packet) = packet_below(outcome, &args.path) {
        return below(&packet);
    }
    if let Some(names) = only_extra(outcome) {
        return extra(&names);
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

/// Returns the names of the files that are not part of the packet, if they are the only error.
fn only_extra(outcome: &VerifyOutcome) -> Option<Vec<&str>> {
    let is_error = |finding: &&Finding| finding.rule.severity == Severity::Error;
    let names: Option<Vec<&str>> = outcome
        .findings
        .iter()
        .filter(is_error)
        .map(|finding| {
            (finding.rule.id == rules::ATTESTATION_EXTRA.id).then_some(finding.found.as_str())
        })
        .collect();
    names.filter(|names| !names.is_empty())
}

/// Returns the hint about added files.
fn extra(names: &[&str]) -> String {
    let shown = names.iter().take(MOST_NAMES).map(|name| {
        let by = DROPPED.iter().find(|(dropped, _)| dropped == name);
        let by = by.map_or_else(String::new, |(_, by)| format!(" (made by {by})"));
        format!("{}{by}", visible(name))
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    let more = match names.len().saturating_sub(MOST_NAMES) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let (what, them) = match names {
        [_] => ("file was", "it"),
        _ => ("files were", "them"),
    };
    format!(
        "hint: everything that was signed is unchanged; the only difference is that the following {what} added: \
         {shown}{more}. Remove {them} and verify again"
    )
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
