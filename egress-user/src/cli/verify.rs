//! `egress verify`: checks a packet, evidence files or one receipt, offline.
//!
//! Needs nothing but the files and the pinned keys. Reads regular files only, bounded, and in a
//! packet none that lies outside its directory.
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::exit;
use super::failure::{self, Form};
use crate::packet::check::{PacketFiles, PacketReport, check_packet, read_packet};
use crate::packet::{FLOWS_FILE, PACKET_FILE, POLICY_FILE, verifier_text};
use crate::receipt::chain::Trust;
use crate::receipt::check::{
    EvidenceFile, MAX_DOCUMENT_BYTES, MAX_EVIDENCE_BYTES, check_evidence, check_receipt,
};
use crate::receipt::findings::{Finding, visible};
use crate::receipt::json::{MAX_DEPTH, parse_bytes};
use crate::receipt::keys::{KeyError, public_from_argument};
use crate::receipt::outer::claimed_name;
use crate::receipt::report::{End, Report, Verdict};

/// Evidence files read from one directory.
const MAX_FILES: usize = 4096;

/// Exit statuses, for `--help`.
const HELP: &str = "\
Exit status:
  0  valid                                    1  invalid, nothing there, or no key was pinned
  2  cannot be read                           3  valid as far as it goes, end not proven
  64 what was typed is wrong";

/// Arguments of `egress verify`.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = HELP)]
pub struct VerifyArgs {
    /// Packet directory, packet.json, evidence file, directory of evidence files, or one receipt
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Public key that must have signed: 64 hex digits, key text, or a file with either
    #[arg(long = "key", value_name = "KEY")]
    pub keys: Vec<String>,
    /// Accept evidence that only agrees with itself, without a pinned key
    #[arg(long)]
    pub allow_unpinned: bool,
    /// Accept evidence whose end is not proven
    #[arg(long)]
    pub allow_prefix: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

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
    /// Lines of the kernel's log, when there is one and it was read.
    pub flow_lines: Option<u64>,
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A key argument is no key.
    #[error("--key {argument}")]
    Key {
        /// What was typed.
        argument: String,
        /// Why.
        #[source]
        source: KeyError,
    },
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
    /// The exit status.
    fn status(&self) -> u8 {
        match self {
            Self::Key {
                source: KeyError::Io { .. },
                ..
            }
            | Self::Read { .. } => exit::CANNOT_READ,
            Self::Key { .. } => exit::USAGE,
        }
    }
}

/// Verifies, prints, and gives the exit status.
pub fn run(args: &VerifyArgs) -> u8 {
    let outcome = match verify(args) {
        Ok(outcome) => outcome,
        Err(error) => {
            return failure::tell(Form::of(args.json), &error, None, error.status());
        }
    };
    let status = status(&outcome, args);
    let text = if args.json {
        as_json(&outcome, args, status).to_string()
    } else {
        as_text(&outcome, args, status)
    };
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        Ok(()) => status,
        Err(_) => exit::CANNOT_READ,
    }
}

/// Verifies without printing.
///
/// # Errors
/// When a key is none, or what is named cannot be read. Bad evidence is no error.
pub fn verify(args: &VerifyArgs) -> Result<Outcome, VerifyError> {
    let mut trust = Trust::default();
    for argument in &args.keys {
        let key = public_from_argument(argument).map_err(|source| VerifyError::Key {
            argument: visible(argument),
            source,
        })?;
        trust.keys.push(key);
    }
    let path = &args.path;
    let metadata = fs::metadata(path).map_err(|source| read_error(path, source))?;
    if metadata.is_dir() {
        let packet = path.join(PACKET_FILE);
        return if fs::symlink_metadata(&packet).is_ok() {
            verify_packet(&packet, &trust)
        } else {
            verify_directory(path, &trust)
        };
    }
    if path.file_name() == Some(OsStr::new(PACKET_FILE)) {
        return verify_packet(path, &trust);
    }
    let bytes = read_file(path, MAX_EVIDENCE_BYTES)?;
    let document = match parse_bytes(&bytes, MAX_DEPTH) {
        Ok(node) if node.member("schema_version").is_some() => Subject::Packet,
        Ok(node) if node.member("action_record").is_some() => Subject::Receipt,
        Ok(node) if node.member("record_type").is_some() => Subject::Receipt,
        _ if path.extension() == Some(OsStr::new("json")) => Subject::Receipt,
        _ => Subject::Evidence,
    };
    let is_lines = path.extension() == Some(OsStr::new("jsonl"));
    match document {
        Subject::Packet if !is_lines => verify_packet(path, &trust),
        Subject::Receipt if !is_lines => {
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if length > MAX_DOCUMENT_BYTES {
                return Err(read_error(path, too_large(MAX_DOCUMENT_BYTES)));
            }
            Ok(of_report(Subject::Receipt, check_receipt(&bytes, &trust)))
        }
        Subject::Evidence | Subject::Packet | Subject::Receipt => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let file = EvidenceFile {
                name: &name,
                bytes: &bytes,
            };
            Ok(of_report(
                Subject::Evidence,
                check_evidence(&[file], &trust),
            ))
        }
    }
}

/// The exit status of an outcome.
pub fn status(outcome: &Outcome, args: &VerifyArgs) -> u8 {
    let trusted = match outcome.verdict {
        Verdict::Valid => true,
        Verdict::SelfConsistentOnly => args.allow_unpinned,
        Verdict::Invalid | Verdict::Error => false,
    };
    let end = outcome.report.as_ref().map(|report| &report.end);
    match (trusted, outcome.subject, end) {
        (false, _, _) | (true, _, None) => exit::INVALID,
        (true, Subject::Receipt, _) | (true, _, Some(End::Proven)) => exit::SUCCESS,
        (true, _, Some(End::Unproven(_))) if args.allow_prefix => exit::SUCCESS,
        (true, _, Some(End::Unproven(_))) => exit::END_UNPROVEN,
    }
}

fn of_report(subject: Subject, report: Report) -> Outcome {
    Outcome {
        subject,
        verdict: report.verdict,
        findings: report.findings.clone(),
        report: Some(report),
        flow_lines: None,
    }
}

/// Verifies a packet and the files beside it. The directory is that of the path as given.
fn verify_packet(path: &Path, trust: &Trust) -> Result<Outcome, VerifyError> {
    let bytes = read_file(path, MAX_DOCUMENT_BYTES)?;
    let packet = match read_packet(&bytes) {
        Ok(packet) => packet,
        Err(findings) => {
            return Ok(Outcome {
                subject: Subject::Packet,
                verdict: Verdict::Invalid,
                findings,
                report: None,
                flow_lines: None,
            });
        }
    };
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let evidence = read_inside(directory, &packet.artifacts.evidence, MAX_EVIDENCE_BYTES)
        .map_err(|error| error.to_string());
    let policy = optional_inside(directory, POLICY_FILE, MAX_DOCUMENT_BYTES)?;
    let flows = optional_inside(directory, FLOWS_FILE, MAX_EVIDENCE_BYTES)?;
    let files = PacketFiles {
        evidence: evidence.as_deref().map_err(String::as_str),
        policy: policy.as_deref(),
        flows: flows.as_deref(),
    };
    let PacketReport {
        verdict,
        findings,
        evidence,
        flows,
    } = check_packet(&packet, &files, trust);
    Ok(Outcome {
        subject: Subject::Packet,
        verdict,
        findings,
        report: Some(evidence),
        flow_lines: flows.map(|flows| flows.lines),
    })
}

/// Verifies the evidence files of a directory, in the order of their numbers. A symbolic link among
/// them is refused: it could stand for any file.
fn verify_directory(path: &Path, trust: &Trust) -> Result<Outcome, VerifyError> {
    let io = |source| read_error(path, source);
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(claim) = claimed_name(&name) {
            if !entry.file_type().map_err(io)?.is_file() {
                return Err(read_error(
                    &entry.path(),
                    io::Error::other("not a regular file"),
                ));
            }
            files.push((claim, name));
        }
        if files.len() > MAX_FILES {
            return Err(io(io::Error::other("too many evidence files")));
        }
    }
    files.sort();
    let mut left = MAX_EVIDENCE_BYTES;
    let mut contents = Vec::new();
    for (_, name) in files {
        let bytes = read_file(&path.join(&name), left)?;
        left = left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        contents.push((name, bytes));
    }
    let files: Vec<EvidenceFile<'_>> = contents
        .iter()
        .map(|(name, bytes)| EvidenceFile { name, bytes })
        .collect();
    Ok(of_report(Subject::Evidence, check_evidence(&files, trust)))
}

fn read_error(path: &Path, source: io::Error) -> VerifyError {
    VerifyError::Read {
        path: path.to_owned(),
        source,
    }
}

fn too_large(limit: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("larger than {limit} bytes"),
    )
}

/// Reads a regular file of at most `limit` bytes.
fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, VerifyError> {
    read_regular(path, limit).map_err(|source| read_error(path, source))
}

/// The kind is asked for before the file is opened, since opening a FIFO waits for its writer, and
/// once more on what was opened.
fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let irregular = || io::Error::other("not a regular file");
    if !fs::metadata(path)?.is_file() {
        return Err(irregular());
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(irregular());
    }
    if metadata.len() > limit {
        return Err(too_large(limit));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(too_large(limit));
    }
    Ok(bytes)
}

/// Reads a file that must lie inside `directory`, also after following links.
fn read_inside(directory: &Path, relative: &str, limit: u64) -> io::Result<Vec<u8>> {
    // A trailing slash would let a file pass for a directory.
    if relative.ends_with('/') {
        return Err(io::Error::other("not a regular file"));
    }
    let root = directory.canonicalize()?;
    let path = root.join(relative).canonicalize()?;
    if !path.starts_with(&root) {
        return Err(io::Error::other("a link leads out of the packet"));
    }
    read_regular(&path, limit)
}

/// Reads a file that may be absent.
fn optional_inside(
    directory: &Path,
    name: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, VerifyError> {
    let path = directory.join(name);
    if fs::symlink_metadata(&path).is_err() {
        return Ok(None);
    }
    read_inside(directory, name, limit)
        .map(Some)
        .map_err(|source| read_error(&path, source))
}

/// What to do about a status that is not success.
fn hint(outcome: &Outcome, args: &VerifyArgs, status: u8) -> &'static str {
    match status {
        exit::END_UNPROVEN => "hint: --allow-prefix accepts evidence whose end is not proven",
        exit::INVALID if outcome.verdict == Verdict::SelfConsistentOnly && !args.allow_unpinned => {
            "hint: pin the signer with --key, or accept self-consistency with --allow-unpinned"
        }
        _ => "",
    }
}

fn as_text(outcome: &Outcome, args: &VerifyArgs, status: u8) -> String {
    let mut text = match &outcome.report {
        Some(report) => verifier_text::render(
            outcome.verdict,
            report,
            &outcome.findings,
            outcome.flow_lines,
        ),
        None => verifier_text::render_findings(&outcome.findings),
    };
    text.push_str(hint(outcome, args, status));
    text
}

fn as_json(outcome: &Outcome, args: &VerifyArgs, status: u8) -> Value {
    let report = outcome.report.as_ref();
    let end = report.map(|report| match report.end {
        End::Proven => json!({"proven": true}),
        End::Unproven(reason) => json!({"proven": false, "reason": reason}),
    });
    let findings: Vec<Value> = outcome
        .findings
        .iter()
        .map(|finding| {
            json!({
                "rule": finding.rule.id,
                "severity": finding.rule.severity.as_str(),
                "says": finding.rule.says,
                "file": finding.place.file,
                "line": finding.place.line,
                "receipt": finding.place.seq,
                "expected": finding.expected,
                "found": finding.found,
                "advice": finding.rule.advice,
            })
        })
        .collect();
    json!({
        "path": args.path.to_string_lossy(),
        "subject": match outcome.subject {
            Subject::Evidence => "evidence",
            Subject::Packet => "packet",
            Subject::Receipt => "receipt",
        },
        "verdict": outcome.verdict.as_str(),
        "exit": status,
        "end": end,
        "receipt_count": report.map(|report| report.receipt_count),
        "evidence_receipts": report.map(|report| report.evidence_receipts),
        "entries": report.map(|report| report.entries),
        "checkpoints": report.map(|report| report.checkpoints),
        "actions": report.map(|report| report.counts.actions),
        "blocked_actions": report.map(|report| report.counts.blocked_actions),
        "totals": report.map(|report| {
            let buckets = report.counts.totals.buckets();
            buckets.into_iter().map(|(name, count)| (String::from(name), json!(count))).collect::<serde_json::Map<_, _>>()
        }),
        "final_seq": report.and_then(|report| report.final_seq),
        "root_hash": report.and_then(|report| report.root_hash.as_deref()),
        "signer_keys": report.map(|report| &report.signer_keys),
        "recorder_session": report.map(|report| &report.recorder_session),
        "flow_lines": outcome.flow_lines,
        "findings": findings,
    })
}
