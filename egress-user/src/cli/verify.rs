//! `egress verify`: checks a packet, evidence files or one receipt, offline.
//!
//! Needs nothing but the files and the pinned keys. Opens each file once, regular files only, and in a
//! packet none that lies outside its directory; memory is bounded whatever the files hold.
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit_packet::boundary::BoundaryReport;
use audit_packet::check::Pinned;
use audit_packet::grade::Grade;
use audit_packet::identity::{self, Identity};
use audit_packet::model::Packet;
use audit_packet::stream::too_large;
use audit_packet::timestamp::{Problem, Stamp};
use audit_packet::{CAPSULE_FILE, EVIDENCE_FILE, PACKET_FILE, PACKET_FILES, rules};
use ed25519_dalek::VerifyingKey;
use files::read_error;
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{MAX_DOCUMENT_BYTES, check_receipt};
use pipelock_receipts::findings::{Finding, Place, visible};
use pipelock_receipts::json::{MAX_DEPTH, Node, parse_bytes};
use pipelock_receipts::keys::{KeyError, public_from_argument};
use pipelock_receipts::report::{End, Report, Verdict};
use show::{as_json, as_text};
use time::OffsetDateTime;

use super::authorities::{self, AuthorityError};
use super::exit;
use super::failure::{self, Form};

mod evidence;
mod expectations;
pub(super) mod files;
mod packet;
mod show;
mod stamp;

/// Exit statuses, for `--help`.
const HELP: &str = "\
Grades of the boundary:
  kernel_enforced  pinned keys vouch for it: every probe was refused, the receipts sign the posture
                   capsule, and the kernel programs and filters were in place until the agent was gone
  unpinned         the same, but a key that nobody pinned vouches for it
  kernel_observed  something of it is missing; it is named
  unproven         nobody signed what the packet says of it, or it contradicts itself
  none             the packet says nothing of a boundary

Findings:
  Each has the identifier of its rule in brackets. docs/rules.md of the egress repository explains them all.

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
    /// Public key that must have signed what the boundary says of itself, in the same forms
    #[arg(long = "boundary-key", value_name = "KEY")]
    pub boundary_keys: Vec<String>,
    /// Exit with 1 unless the boundary has at least this grade
    #[arg(long, value_name = "GRADE")]
    pub require_grade: Option<Grade>,
    /// Require this of the run that the packet is of: `repository`, `commit`, `ref`, `workflow`, `job`, `run_id`,
    /// `run_attempt`, `runner`, `runner_image`, `provider`, or what `egress run --bind` named; repeatable
    #[arg(long = "expect", value_name = "KEY=VALUE", value_parser = identity::pair)]
    pub expect: Vec<(String, String)>,
    /// Require the nonce that `egress run --nonce` was given
    #[arg(long, value_name = "HEX", value_parser = identity::nonce)]
    pub nonce: Option<String>,
    /// Reject a packet older than this, or from the future: a number and `s`, `m`, `h`, or `d`
    #[arg(long, value_name = "DURATION", value_parser = expectations::duration)]
    pub max_age: Option<Duration>,
    /// Require a time stamp over the attestation by an authority of this PEM file, which holds its root or its own
    /// certificate; `--max-age` then counts from the time stamp; repeatable
    #[arg(long = "timestamp-ca", value_name = "FILE")]
    pub timestamp_ca: Vec<PathBuf>,
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
    /// What a packet shows of the boundary.
    pub boundary: Option<BoundaryReport>,
    /// The packet, when it can be read.
    pub packet: Option<Packet>,
    /// Which run it is of, when the packet says that.
    pub identity: Option<Identity>,
    /// What the packet holds of a time stamp.
    material: Option<stamp::Material>,
    /// What the time stamp states, or why it states nothing; nothing when there is none.
    pub stamp: Option<Result<Stamp, Problem>>,
}

impl Outcome {
    /// What there is to say of a packet that cannot be read.
    fn unusable(findings: Vec<Finding>) -> Self {
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
    /// The exit status.
    fn status(&self) -> u8 {
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

/// Verifies what `path` names: a packet, evidence files, or one receipt.
fn verify_subject(path: &Path, pinned: &Pinned) -> Result<Outcome, VerifyError> {
    let trust = &pinned.receipts;
    let metadata = fs::metadata(path).map_err(|source| read_error(path, source))?;
    if metadata.is_dir() {
        let packet = path.join(PACKET_FILE);
        if fs::symlink_metadata(&packet).is_ok() {
            return packet::verify(&packet, None, pinned);
        }
        // Pipelock's own tools keep a capsule beside evidence files, too.
        let is_shared = |name: &str| [EVIDENCE_FILE, CAPSULE_FILE].contains(&name);
        let mut others = PACKET_FILES.iter().filter(|name| !is_shared(name));
        let outcome = evidence::verify_directory(path, trust)?;
        return Ok(match others.find(|name| is_there(&path.join(name))) {
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
    let file = egress_files::open(path).map_err(|source| read_error(path, source))?;
    let is_lines = path.extension() == Some(OsStr::new("jsonl"));
    if is_lines {
        return evidence::verify_file(path, &mut &file, trust);
    }
    // A document is short, and is told from evidence by what it holds.
    let mut bytes = Vec::new();
    let mut start = (&file).take(MAX_DOCUMENT_BYTES.saturating_add(1));
    start
        .read_to_end(&mut bytes)
        .map_err(|source| read_error(path, source))?;
    let is_long = u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_DOCUMENT_BYTES;
    let named_json = path.extension() == Some(OsStr::new("json"));
    if is_long {
        if named_json {
            return Err(read_error(path, too_large(MAX_DOCUMENT_BYTES)));
        }
        return evidence::verify_file(path, &mut bytes.as_slice().chain(&file), trust);
    }
    let holds = |node: &Node<'_>, name| node.member(name).is_some();
    match parse_bytes(&bytes, MAX_DEPTH) {
        Ok(node) if holds(&node, "schema_version") => packet::verify(path, Some(bytes), pinned),
        Ok(node) if holds(&node, "action_record") || holds(&node, "record_type") => {
            Ok(of_report(Subject::Receipt, check_receipt(&bytes, trust)))
        }
        _ if named_json => Ok(of_report(Subject::Receipt, check_receipt(&bytes, trust))),
        _ => evidence::verify_file(path, &mut bytes.as_slice(), trust),
    }
}

/// What was asked for can only be read from a whole packet: evidence by itself says nothing of a boundary.
fn without_packet(path: &Path, outcome: Outcome) -> Outcome {
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
fn not_a_packet(mut outcome: Outcome, place: Place, found: String) -> Outcome {
    let expected = format!("a packet directory with {PACKET_FILE}");
    let finding = Finding {
        rule: &rules::MISSING,
        place,
        expected,
        found,
    };
    outcome.findings.insert(0, finding);
    outcome.verdict = Verdict::Invalid;
    outcome
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
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

/// The exit status of an outcome.
pub fn status(outcome: &Outcome, args: &VerifyArgs) -> u8 {
    let trusted = match outcome.verdict {
        Verdict::Valid => true,
        Verdict::SelfConsistentOnly => args.allow_unpinned,
        Verdict::Invalid | Verdict::Error => false,
    };
    let end = outcome.report.as_ref().map(|report| &report.end);
    if grade(outcome) < args.require_grade.unwrap_or(Grade::None) {
        return exit::INVALID;
    }
    match (trusted, outcome.subject, end) {
        (false, _, _) | (true, _, None) => exit::INVALID,
        (true, Subject::Receipt, _) | (true, _, Some(End::Proven)) => exit::SUCCESS,
        (true, _, Some(End::Unproven(_))) if args.allow_prefix => exit::SUCCESS,
        (true, _, Some(End::Unproven(_))) => exit::END_UNPROVEN,
    }
}

/// What is shown of the boundary; evidence alone shows nothing.
pub fn grade(outcome: &Outcome) -> Grade {
    outcome
        .boundary
        .as_ref()
        .map_or(Grade::None, |boundary| boundary.graded.grade)
}

fn of_report(subject: Subject, report: Report) -> Outcome {
    Outcome {
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
