//! `egress verify`: checks a packet, evidence files, or one receipt, offline.
//!
//! The check needs only the files and the pinned keys. The check opens each file once, and opens only regular files.
//! The files of a packet must be in the directory of the packet. The check does not load the evidence, the flow log, or
//! the archive of changes into memory as a whole.
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::Path;

use audit_packet::check::Pinned;
use audit_packet::grade::Grade;
use audit_packet::stream::too_large;
use audit_packet::{PACKET_FILE, rules};
use ed25519_dalek::VerifyingKey;
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{MAX_DOCUMENT_BYTES, check_receipt};
use pipelock_receipts::findings::{Finding, Place, visible};
use pipelock_receipts::json::{MAX_DEPTH, Node, parse_bytes};
use pipelock_receipts::keys::public_from_argument;
use pipelock_receipts::report::{End, EvidenceVerdict};
use show::{as_json, as_text};
use time::OffsetDateTime;

use super::authorities::{self};
use super::exit;
use super::failure::{self, Form};
use super::{output, style};
use crate::ci_commands::{harmless, harmless_json};

mod args;
mod evidence;
mod expectations;
mod hint;
mod outcome;
mod packet;
mod show;
mod stamp;

pub use args::VerifyArgs;
pub(super) use args::duration;
pub use outcome::{Subject, VerifyError, VerifyOutcome};

/// Verifies, prints the outcome, and returns the exit status.
pub fn run(args: &VerifyArgs) -> u8 {
    let outcome = match verify(args) {
        Ok(outcome) => outcome,
        Err(error) => {
            return failure::report(Form::of(args.json), &error, None, error.status());
        }
    };
    if args.quiet {
        return status(&outcome, args);
    }
    let text = printed(&outcome, args);
    let written = output::line(&if args.json { text } else { style::stdout(text) });
    written.map_or(exit::CANNOT_READ, |()| status(&outcome, args))
}

/// Returns the text that [`run`] prints for an outcome.
pub fn printed(outcome: &VerifyOutcome, args: &VerifyArgs) -> String {
    let status = status(outcome, args);
    if args.json {
        harmless_json(&as_json(outcome, args, status))
    } else {
        harmless(&as_text(outcome, args, status))
    }
}

/// Verifies without printing.
///
/// # Errors
/// Fails if a key argument is invalid, or a named file cannot be read. Bad evidence is not an error.
pub fn verify(args: &VerifyArgs) -> Result<VerifyOutcome, VerifyError> {
    let pinned = Pinned {
        receipts: Trust {
            keys: keys("--key", &args.keys)?,
        },
        boundary: keys("--boundary-key", &args.boundary_keys)?,
    };
    let authorities = authorities::read(&args.timestamp_ca)?;
    let mut outcome = verify_subject(&args.path, &pinned)?;
    stamp::check(&mut outcome, authorities.as_ref());
    expectations::check(&mut outcome, args, OffsetDateTime::now_utc());
    let wants_boundary =
        !pinned.boundary.is_empty() || args.require_grade.is_some_and(|grade| grade > Grade::None);
    if outcome.boundary.is_none() && wants_boundary {
        return Ok(without_packet(&args.path, outcome));
    }
    Ok(outcome)
}

/// Verifies the packet, the evidence files, or the receipt at `path`.
fn verify_subject(path: &Path, pinned: &Pinned) -> Result<VerifyOutcome, VerifyError> {
    let trust = &pinned.receipts;
    let metadata = fs::metadata(path).map_err(|source| VerifyError::read(path, source))?;
    if metadata.is_dir() {
        let packet = path.join(PACKET_FILE);
        if fs::symlink_metadata(&packet).is_ok() {
            return packet::verify(&packet, None, pinned);
        }
        let outcome = evidence::verify_directory(path, trust)?;
        return Ok(match evidence::part_of_a_packet(path) {
            Some(name) => {
                let found = format!("{name} without {PACKET_FILE}");
                not_a_packet(outcome, Place::default(), found)
            }
            None => outcome,
        });
    }
    if path.file_name() == Some(OsStr::new(PACKET_FILE)) {
        return packet::verify(path, None, pinned);
    }
    let file = egress_files::open(path).map_err(|source| VerifyError::read(path, source))?;
    let is_lines = path.extension() == Some(OsStr::new("jsonl"));
    if is_lines {
        return evidence::verify_file(path, &mut &file, trust);
    }
    // `packet.json` and a receipt are short. The members of these documents distinguish them from evidence.
    let mut bytes = Vec::new();
    let mut start = (&file).take(MAX_DOCUMENT_BYTES.saturating_add(1));
    start
        .read_to_end(&mut bytes)
        .map_err(|source| VerifyError::read(path, source))?;
    let is_long = u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_DOCUMENT_BYTES;
    let named_json = path.extension() == Some(OsStr::new("json"));
    if is_long {
        if named_json {
            return Err(VerifyError::read(path, too_large(MAX_DOCUMENT_BYTES)));
        }
        return evidence::verify_file(path, &mut bytes.as_slice().chain(&file), trust);
    }
    let holds = |node: &Node<'_>, name| node.member(name).is_some();
    match parse_bytes(&bytes, MAX_DEPTH) {
        Ok(node) if holds(&node, "schema_version") => packet::verify(path, Some(bytes), pinned),
        Ok(node) if holds(&node, "action_record") || holds(&node, "record_type") => Ok(
            VerifyOutcome::of_report(Subject::Receipt, check_receipt(&bytes, trust)),
        ),
        _ if named_json => Ok(VerifyOutcome::of_report(
            Subject::Receipt,
            check_receipt(&bytes, trust),
        )),
        _ => evidence::verify_file(path, &mut bytes.as_slice(), trust),
    }
}

/// Adds a finding if the outcome has none about a missing packet, because evidence without a packet does not describe a
/// boundary.
fn without_packet(path: &Path, outcome: VerifyOutcome) -> VerifyOutcome {
    let has_finding = outcome
        .findings
        .iter()
        .any(|finding| finding.rule.id == rules::MISSING.id);
    if has_finding || outcome.report.is_none() {
        return outcome;
    }
    let name = path.file_name().unwrap_or(path.as_os_str());
    let place = Place::in_file(name.to_string_lossy());
    let found = match outcome.subject {
        Subject::Receipt => "a single receipt",
        Subject::Evidence | Subject::Packet => "evidence without a packet",
    };
    not_a_packet(outcome, place, String::from(found))
}

/// Makes a missing packet the first finding.
fn not_a_packet(mut outcome: VerifyOutcome, place: Place, found: String) -> VerifyOutcome {
    let expected = format!("a packet directory with {PACKET_FILE}");
    let finding = Finding {
        rule: &rules::MISSING,
        place,
        expected,
        found,
    };
    outcome.findings.insert(0, finding);
    outcome.verdict = EvidenceVerdict::Invalid;
    outcome
}

fn keys(option: &'static str, arguments: &[String]) -> Result<Vec<VerifyingKey>, VerifyError> {
    let key = |argument: &String| {
        public_from_argument(argument).map_err(|source| VerifyError::Key {
            option,
            argument: visible(argument),
            source,
        })
    };
    arguments.iter().map(key).collect()
}

/// Returns the exit status of an outcome.
pub fn status(outcome: &VerifyOutcome, args: &VerifyArgs) -> u8 {
    let trusted = match outcome.verdict {
        EvidenceVerdict::Valid => true,
        EvidenceVerdict::SelfConsistentOnly => args.allow_unpinned,
        EvidenceVerdict::Invalid | EvidenceVerdict::Error => false,
    };
    let end = outcome.report.as_ref().map(|report| &report.end);
    if outcome.grade() < args.require_grade.unwrap_or(Grade::None) {
        return exit::INVALID;
    }
    match (trusted, outcome.subject, end) {
        (false, _, _) | (true, _, None) => exit::INVALID,
        (true, Subject::Receipt, _) | (true, _, Some(End::Proven)) => exit::SUCCESS,
        (true, _, Some(End::Unproven(_))) if args.allow_prefix => exit::SUCCESS,
        (true, _, Some(End::Unproven(_))) => exit::END_UNPROVEN,
    }
}
