//! Verifies changed packets with the library of `egress verify`.
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use audit_packet::grade::Grade;
use audit_packet::rendered::{self, Source};
use ed25519_dalek::SigningKey;
use egress::cli::verify::{VerifyArgs, VerifyError, VerifyOutcome, printed, verify};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use pipelock_receipts::findings::{Finding, Severity};
use pipelock_receipts::report::EvidenceVerdict;
use tempfile::TempDir;

use super::attacker::{Attacker, Keys};
use super::change::{Change, DiskOperator};
use super::json::Json;
use super::packet::{ATTESTATION, Files, HonestPacket, PACKET, attestation, sha256, with_digests};

/// Number of threads that verify packets.
pub(super) const THREADS: usize = 4;
/// A directory that is in memory on most machines.
const IN_MEMORY: &str = "/dev/shm";
/// Length of a file with a hole. This length exceeds every size limit.
const SPARSE: u64 = 600 << 20;
/// The rule about the grade in the attestation. A packet that breaks any other rule breaks this rule too, because the
/// attestation of a changed packet still states the grade of the honest packet.
const PREDICATE: &str = "attestation.predicate";
/// The rule about the pages, whose content depends on all other files.
const RENDERED: &str = "packet.rendered";
/// The pages, in the order in which they are rendered.
const PAGES: [&str; 3] = ["summary.md", "verifier.txt", "report.html"];
/// Each of these reasons for a lower grade states only that the packet has findings.
const CONSEQUENCES: [&str; 2] = [
    "the files of the packet about the boundary are inconsistent",
    "the packet is invalid (see the errors)",
];

/// The verifier's result for a changed packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgment {
    /// The packet is not valid.
    Rejected(Vec<String>),
    /// The grade is lower, for these reasons.
    Lowered(Vec<String>),
    /// The change was not detected.
    Unseen,
}

/// The verifier's result for the honest packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expectation {
    pub(super) grade: Grade,
    pub(super) reasons: BTreeSet<String>,
}

/// A directory in which packets are verified one after the other.
#[derive(Debug)]
pub(super) struct Bench<'h> {
    dir: TempDir,
    honest: &'h HonestPacket,
    own: &'h Keys,
    /// The files in the directory.
    there: Files,
    /// The honest packet, signed by each attacker.
    unchanged: BTreeMap<Attacker, Files>,
}

impl<'h> Bench<'h> {
    pub(super) fn new(honest: &'h HonestPacket, own: &'h Keys) -> io::Result<Self> {
        let place = Path::new(IN_MEMORY);
        let builder = |place: &Path| {
            tempfile::Builder::new()
                .prefix("egress-mutation-")
                .tempdir_in(place)
        };
        let dir = if place.is_dir() {
            builder(place)?
        } else {
            builder(&std::env::temp_dir())?
        };
        fs::create_dir(dir.path().join("packet"))?;
        let mut unchanged = BTreeMap::new();
        for attacker in Attacker::ALL {
            let files = honest.forged(attacker, &Change::Nothing, own);
            unchanged.insert(attacker, files.map_err(io::Error::other)?);
        }
        Ok(Self {
            dir,
            honest,
            own,
            there: Files::new(),
            unchanged,
        })
    }

    /// Returns the result for the honest packet after this attacker signed it again.
    pub(super) fn honest(&mut self, attacker: Attacker) -> io::Result<(Judgment, Expectation)> {
        let nothing = Expectation {
            grade: Grade::KernelEnforced,
            reasons: BTreeSet::new(),
        };
        let files = self.unchanged.get(&attacker).cloned().unwrap_or_default();
        self.place(&files)?;
        Ok(verdict(&self.outcome(attacker), &nothing, false))
    }

    /// Verifies one change. Returns `None` if signing the packet again reverts the change.
    pub(super) fn judge(
        &mut self,
        attacker: Attacker,
        change: &Change,
        expected: &Expectation,
    ) -> io::Result<Option<Judgment>> {
        let Some(files) = self.forged(attacker, change)? else {
            return Ok(None);
        };
        self.place(&files)?;
        let disk = match change {
            Change::Disk(name, operator) => {
                let packet = self.dir.path().join("packet");
                disguise(&packet, name, &self.dir.path().join("outside"), *operator)?;
                true
            }
            _ => false,
        };
        let is_statement = matches!(change, Change::Statement(_));
        let mut outcome = self.outcome(attacker);
        if let Some(files) = self.rendered(attacker, change, &files, outcome.as_ref().ok()) {
            self.place(&files)?;
            outcome = self.outcome(attacker);
        }
        let (judgment, _) = verdict(&outcome, expected, is_statement);
        if disk {
            let dir = self.dir.path().join("packet");
            fs::remove_dir_all(&dir)?;
            fs::create_dir(&dir)?;
            self.there.clear();
        }
        Ok(Some(judgment))
    }

    /// Returns the files after a change by the boundary. The boundary also renders the pages again, and writes the
    /// resulting grade into the predicate.
    pub(super) fn settled(
        &mut self,
        attacker: Attacker,
        change: &Change,
    ) -> io::Result<Option<Files>> {
        let Some(mut files) = self.forged(attacker, change)? else {
            return Ok(None);
        };
        let is_signer = matches!(attacker, Attacker::Mediator | Attacker::Boundary);
        let Some(mut statement) = self.honest.statement().filter(|_| is_signer) else {
            return Ok(Some(files));
        };
        if stays_as_it_is(change) {
            return Ok(Some(files));
        }
        // The pages contain the grade, so the predicate is corrected first.
        for _ in 0..2 {
            self.place(&files)?;
            let outcome = self.outcome(attacker);
            let Some(next) = outcome
                .ok()
                .and_then(|outcome| self.without_consequence(&outcome, &mut statement, &files))
            else {
                break;
            };
            files = next;
        }
        Ok(Some(files))
    }

    /// Returns the files with a corrected predicate or corrected pages, if nothing else is wrong.
    fn without_consequence(
        &self,
        outcome: &VerifyOutcome,
        statement: &mut Json,
        files: &Files,
    ) -> Option<Files> {
        let found: Vec<&Finding> = errors(outcome).collect();
        let is_consequence = |finding: &&Finding| [RENDERED, PREDICATE].contains(&finding.rule.id);
        if found.is_empty() || !found.iter().all(is_consequence) {
            return None;
        }
        let mut files = files.clone();
        if let Some(finding) = found.iter().find(|finding| finding.rule.id == PREDICATE) {
            let mut predicate = statement.member("predicate")?.clone();
            predicate.set("grade", Json::string(&finding.expected));
            statement.set("predicate", predicate);
        } else {
            files = with_pages(outcome, &files)?;
        }
        let signed = attestation(&with_digests(statement, &files), &self.honest.boundary);
        files.insert(ATTESTATION.to_owned(), signed);
        Some(files)
    }

    /// Returns the files after a change, or `None` if signing the packet again reverts the change.
    fn forged(&self, attacker: Attacker, change: &Change) -> io::Result<Option<Files>> {
        let files = self.honest.forged(attacker, change, self.own);
        let files = files.map_err(io::Error::other)?;
        let is_undone = self.unchanged.get(&attacker) == Some(&files);
        Ok(Some(files).filter(|_| matches!(change, Change::Disk(..)) || !is_undone))
    }

    fn place(&mut self, files: &Files) -> io::Result<()> {
        let dir = self.dir.path().join("packet");
        for name in self.there.keys().filter(|name| !files.contains_key(*name)) {
            fs::remove_file(dir.join(name))?;
        }
        for (name, bytes) in files {
            if self.there.get(name) != Some(bytes) {
                fs::write(dir.join(name), bytes)?;
            }
        }
        self.there.clone_from(files);
        Ok(())
    }

    /// Verifies the files, and formats the outcome as text and as JSON, so that a panic of the formatting fails the
    /// test. Pins both keys, except that only the key of the receipts is pinned against [`Attacker::OwnBoundaryKey`].
    fn outcome(&self, attacker: Attacker) -> Result<VerifyOutcome, VerifyError> {
        let public = |key: &SigningKey| hex::encode(key.verifying_key().to_bytes());
        let boundary_keys = match attacker {
            Attacker::OwnBoundaryKey => Vec::new(),
            _ => vec![public(&self.honest.boundary)],
        };
        let mut args = VerifyArgs {
            path: self.dir.path().join("packet"),
            keys: vec![public(&self.honest.key)],
            boundary_keys,
            ..VerifyArgs::default()
        };
        let outcome = verify(&args)?;
        for json in [false, true] {
            args.json = json;
            assert!(!printed(&outcome, &args).is_empty(), "nothing is printed");
        }
        Ok(outcome)
    }

    /// Returns the files with pages that are rendered and signed again, if only the pages are wrong.
    fn rendered(
        &self,
        attacker: Attacker,
        change: &Change,
        files: &Files,
        found: Option<&VerifyOutcome>,
    ) -> Option<Files> {
        let key = match attacker {
            Attacker::Keyless | Attacker::OwnKeys => return None,
            Attacker::OwnBoundaryKey => &self.own.boundary,
            Attacker::Mediator | Attacker::Boundary => &self.honest.boundary,
        };
        // A page is not rendered again if the change concerns that page.
        if let Change::File(name, _) | Change::Missing(name) | Change::Disk(name, _) = change
            && PAGES.contains(&name.as_str())
        {
            return None;
        }
        let outcome = found?;
        if !errors(outcome).all(|finding| finding.rule.id == RENDERED) {
            return None;
        }
        let mut files = with_pages(outcome, files)?;
        let statement = match change {
            Change::Statement(json) => json.clone(),
            _ => self.honest.statement()?,
        };
        let statement = with_digests(&statement, &files);
        files.insert(ATTESTATION.to_owned(), attestation(&statement, key));
        Some(files)
    }
}

/// Returns whether the change is in a page or in the attestation. Such a file must not be written again.
fn stays_as_it_is(change: &Change) -> bool {
    match change {
        Change::File(name, _) | Change::Missing(name) => {
            PAGES.contains(&name.as_str()) || name == ATTESTATION
        }
        Change::Statement(_) | Change::Disk(..) => true,
        _ => false,
    }
}

/// Returns all findings that are errors.
fn errors(outcome: &VerifyOutcome) -> impl Iterator<Item = &Finding> {
    let all = outcome.findings.iter();
    all.filter(|finding| finding.rule.severity == Severity::Error)
}

/// Returns the files with pages that are rendered from them.
pub(super) fn with_pages(outcome: &VerifyOutcome, files: &Files) -> Option<Files> {
    let pages = rendered::render(&Source {
        packet: outcome.packet.as_ref()?,
        packet_sha256: &sha256(files.get(PACKET)?),
        report: outcome.report.as_ref()?,
        verdict: EvidenceVerdict::Valid,
        boundary: outcome.boundary.as_ref()?,
    });
    let mut files = files.clone();
    let texts = [pages.summary, pages.verifier, pages.report];
    for (name, text) in PAGES.into_iter().zip(texts) {
        files.insert(name.to_owned(), text.into_bytes());
    }
    Some(files)
}

/// Replaces a file of a packet with another object. `outside` is a path beside the packet.
pub(super) fn disguise(
    packet: &Path,
    name: &str,
    outside: &Path,
    operator: DiskOperator,
) -> io::Result<()> {
    let path = packet.join(name);
    match operator {
        DiskOperator::Sparse => File::options().write(true).open(&path)?.set_len(SPARSE),
        DiskOperator::Link => {
            fs::rename(&path, outside)?;
            symlink(outside, &path)
        }
        DiskOperator::Fifo => {
            fs::remove_file(&path)?;
            mkfifo(&path, Mode::S_IRWXU).map_err(io::Error::from)
        }
        DiskOperator::Directory => {
            fs::remove_file(&path)?;
            fs::create_dir(&path)
        }
    }
}

/// Summarizes the findings of the verifier and its result for the boundary.
fn verdict(
    outcome: &Result<VerifyOutcome, VerifyError>,
    expected: &Expectation,
    is_statement: bool,
) -> (Judgment, Expectation) {
    let nothing = Expectation {
        grade: Grade::None,
        reasons: BTreeSet::new(),
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return (Judgment::Rejected(vec![error.to_string()]), nothing),
    };
    let errors: Vec<String> = outcome
        .findings
        .iter()
        .filter(|finding| finding.rule.severity == Severity::Error)
        .filter(|finding| is_statement || finding.rule.id != PREDICATE)
        .map(|finding| {
            format!(
                "[{}] {} / {}",
                finding.rule.id, finding.expected, finding.found
            )
        })
        .collect();
    let Some(boundary) = &outcome.boundary else {
        return (Judgment::Rejected(errors), nothing);
    };
    let said = boundary.graded.reasons.iter();
    let said: BTreeSet<String> = said
        .filter(|reason| !CONSEQUENCES.contains(&reason.as_str()))
        .cloned()
        .collect();
    let new: Vec<String> = said.difference(&expected.reasons).cloned().collect();
    let found = Expectation {
        grade: boundary.graded.grade,
        reasons: said,
    };
    let judgment = if !errors.is_empty() {
        Judgment::Rejected(errors)
    } else if new.is_empty() {
        Judgment::Unseen
    } else {
        Judgment::Lowered(new)
    };
    (judgment, found)
}
