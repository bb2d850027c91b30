//! Verifies a packet. Opens each file once, so that the bytes that are checked are the bytes that the attestation
//! covers.
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use audit_packet::attest::{self, Opened};
use audit_packet::boundary::{Attestation, BoundaryFiles, PolicyFile};
use audit_packet::check::{PacketFiles, PacketReport, Pinned, check_packet, read_packet};
use audit_packet::identity::Identity;
use audit_packet::rendered::Found;
use audit_packet::rules;
use audit_packet::stream::{FileDigest, Stream};
use audit_packet::{
    ATTESTATION_FILE, BOUNDARY_FILE, CAPSULE_FILE, CHANGES_ARCHIVE, CHANGES_FILE, FLOWS_FILE,
    IDENTITY_FILE, PACKET_FILE, POLICY_FILE, REPORT_FILE, SUMMARY_FILE, TIMESTAMP_FILE,
    VERIFIER_FILE,
};
use egress_policy::allowed::Allowed;
use egress_timestamp::MOST_BYTES;
use pipelock_receipts::check::MAX_DOCUMENT_BYTES;
use pipelock_receipts::findings::{Finding, Place};

use super::outcome::{Material, Subject, VerifyError, VerifyOutcome};
use crate::cli::files::{Folder, read_all};

/// Size limit of `changes.json` if no trusted attestation states its size.
const MAX_CHANGES_BYTES: u64 = 512 << 20;
/// Size limit of a hashed file if no trusted attestation states its size.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// Verifies the packet at `path` and the files beside it. `bytes` is the content of `packet.json`, if it was already
/// read. A file that is too long is a finding and not an error, because the packet itself is the cause.
pub(super) fn verify(
    path: &Path,
    bytes: Option<Vec<u8>>,
    pinned: &Pinned,
) -> Result<VerifyOutcome, VerifyError> {
    match verify_files(path, bytes, pinned) {
        Err(VerifyError::TooLarge { name, size, most }) => {
            let found = size.map_or_else(|| String::from("more"), |size| format!("{size} bytes"));
            Ok(VerifyOutcome::unusable(vec![Finding {
                rule: &rules::SIZE,
                place: Place::in_file(name),
                expected: format!("at most {most} bytes"),
                found,
            }]))
        }
        verified => verified,
    }
}

fn verify_files(
    path: &Path,
    bytes: Option<Vec<u8>>,
    pinned: &Pinned,
) -> Result<VerifyOutcome, VerifyError> {
    let failed = |source| VerifyError::read(path, source);
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let folder = Folder::hold(directory).map_err(failed)?;
    let bytes = if let Some(bytes) = bytes {
        bytes
    } else {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        read(&folder, directory, &name, MAX_DOCUMENT_BYTES)?
    };
    let packet = match read_packet(&bytes) {
        Ok(packet) => packet,
        Err(findings) => return Ok(VerifyOutcome::unusable(findings)),
    };
    let mut beside = OtherFiles::read(folder, directory, pinned)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    beside.record_digest(&name, &bytes);
    let policy = beside.document(POLICY_FILE)?;
    let boundary = beside.document(BOUNDARY_FILE)?;
    let capsule = beside.document(CAPSULE_FILE)?;
    let identity = beside.document(IDENTITY_FILE)?;
    let changes = beside.changes()?;
    let timestamp = beside.timestamp();
    let summary = beside.document(SUMMARY_FILE)?;
    let verifier = beside.document(VERIFIER_FILE)?;
    let report = beside.document(REPORT_FILE)?;
    let flows = beside.has(FLOWS_FILE).then(|| beside.flows());
    let evidence = beside.evidence(&packet.artifacts.evidence);
    let files = PacketFiles {
        evidence: evidence.map_err(|error| error.to_string()),
        policy: policy.as_deref(),
        boundary: BoundaryFiles {
            boundary: boundary.as_deref(),
            flows: flows.map(|flows| flows.map_err(|error| error.to_string())),
            capsule: capsule.as_deref(),
            identity: identity.as_deref(),
            policy: policy.as_deref().map(|bytes| PolicyFile {
                bytes,
                read: Allowed::read,
            }),
            changes: changes.as_deref(),
            archive: beside.archive(),
            attestation: beside.attestation(&packet.artifacts.evidence),
        },
        pages: Found {
            summary: summary.as_deref(),
            verifier: verifier.as_deref(),
            report: report.as_deref(),
        },
        packet_sha256: &FileDigest::of(PACKET_FILE, &bytes).sha256,
    };
    let PacketReport {
        verdict,
        findings,
        evidence,
        boundary,
    } = check_packet(&packet, files, pinned);
    Ok(VerifyOutcome {
        subject: Subject::Packet,
        verdict,
        findings,
        report: Some(evidence),
        boundary: Some(boundary),
        packet: Some(packet),
        identity: identity
            .as_deref()
            .and_then(|bytes| Identity::read(bytes).ok()),
        material: Some(timestamp),
        stamp: None,
    })
}

/// Reads a file of at most `most` bytes.
fn read(folder: &Folder, path: &Path, name: &str, most: u64) -> Result<Vec<u8>, VerifyError> {
    let file = folder.open(name, most);
    let bytes = file.and_then(|file| read_all(file, most));
    bytes.map_err(|source| {
        if source.kind() == io::ErrorKind::FileTooLarge {
            VerifyError::TooLarge {
                name: name.to_owned(),
                size: folder.size(name),
                most,
            }
        } else {
            VerifyError::read(&path.join(name), source)
        }
    })
}

/// The files beside `packet.json`.
struct OtherFiles {
    folder: Folder,
    path: PathBuf,
    /// The bytes of `attestation.json`.
    attestation: Option<Vec<u8>>,
    attested: Option<Attested>,
}

/// The attestation and the files that it may cover.
struct Attested {
    opened: Opened,
    /// Every name in the directory except the attestation and the time stamp. The value is true for a regular file. A
    /// file that is added later is not read.
    names: BTreeMap<String, bool>,
    /// Digests of the files that were read.
    read: BTreeMap<String, FileDigest>,
}

impl OtherFiles {
    /// Reads the attestation, which names the other files, and lists the directory.
    fn read(folder: Folder, path: &Path, pinned: &Pinned) -> Result<Self, VerifyError> {
        let mut files = Self {
            folder,
            path: path.to_owned(),
            attestation: None,
            attested: None,
        };
        if let Some(bytes) = files.document(ATTESTATION_FILE)? {
            let is_covered = |name: &str| ![ATTESTATION_FILE, TIMESTAMP_FILE].contains(&name);
            let list = files.folder.list(is_covered);
            let names = list.map_err(|source| VerifyError::read(path, source))?;
            files.attested = Some(Attested {
                opened: attest::open(&bytes, &pinned.boundary),
                names,
                read: BTreeMap::new(),
            });
            files.attestation = Some(bytes);
        }
        Ok(files)
    }

    /// Returns whether a file with this name exists.
    fn has(&self, name: &str) -> bool {
        match &self.attested {
            Some(attested) => attested.names.contains_key(name),
            None => self.folder.has(name),
        }
    }

    /// Records the digest of a file that was read.
    fn record_digest(&mut self, name: &str, bytes: &[u8]) {
        if let Some(attested) = &mut self.attested {
            let digest = FileDigest::of(name, bytes);
            attested.read.insert(name.to_owned(), digest);
        }
    }

    /// Returns the size limit of a file: the size that a trusted attestation states, otherwise at most `fixed`.
    fn most(&self, name: &str, fixed: u64) -> u64 {
        let Some(attested) = &self.attested else {
            return fixed;
        };
        match attested.opened.size(name) {
            Some(size) if attested.opened.is_trusted() => size,
            Some(size) => size.min(fixed),
            None => fixed,
        }
    }

    /// Reads a file that may be absent.
    fn optional(&mut self, name: &str, most: u64) -> Result<Option<Vec<u8>>, VerifyError> {
        if !self.has(name) {
            return Ok(None);
        }
        let bytes = read(&self.folder, &self.path, name, most)?;
        self.record_digest(name, &bytes);
        Ok(Some(bytes))
    }

    /// Reads a document that may be absent. The size limit of the document is fixed, whatever the attestation states.
    fn document(&mut self, name: &str) -> Result<Option<Vec<u8>>, VerifyError> {
        self.optional(name, MAX_DOCUMENT_BYTES)
    }

    /// Reads the time stamp. The attestation does not name the time stamp, because the time stamp covers the
    /// attestation.
    fn timestamp(&mut self) -> Material {
        let reply = self.folder.has(TIMESTAMP_FILE).then(|| {
            let file = self.folder.open(TIMESTAMP_FILE, MOST_BYTES);
            file.and_then(|file| read_all(file, MOST_BYTES))
                .map_err(|error| error.to_string())
        });
        Material {
            attestation: self.attestation.take(),
            reply,
        }
    }

    fn changes(&mut self) -> Result<Option<Vec<u8>>, VerifyError> {
        self.optional(CHANGES_FILE, self.most(CHANGES_FILE, MAX_CHANGES_BYTES))
    }

    fn stream(&self, name: &str, most: u64) -> io::Result<Stream<'static>> {
        let file: File = self.folder.open(name, most)?;
        Ok(Stream::new(file, most))
    }

    fn flows(&self) -> io::Result<Stream<'static>> {
        self.stream(FLOWS_FILE, self.most(FLOWS_FILE, MAX_FILE_BYTES))
    }

    /// Opens the archive of changes, if the attestation names it. Otherwise it is not read.
    fn archive(&self) -> Option<Result<Stream<'static>, String>> {
        let attested = self.attested.as_ref()?;
        let is_file = attested.names.get(CHANGES_ARCHIVE).copied()?;
        let is_read = is_file && attested.opened.names(CHANGES_ARCHIVE);
        let most = self.most(CHANGES_ARCHIVE, MAX_FILE_BYTES);
        let stream = || {
            self.stream(CHANGES_ARCHIVE, most)
                .map_err(|error| error.to_string())
        };
        is_read.then(stream)
    }

    /// Opens the evidence. The evidence needs no fixed size limit, because its check ends at the first line that no
    /// writer produces.
    fn evidence(&self, name: &str) -> io::Result<Stream<'static>> {
        let is_trusted = |attested: &&Attested| attested.opened.is_trusted();
        let most = self
            .attested
            .as_ref()
            .filter(is_trusted)
            .and_then(|attested| attested.opened.size(name));
        self.stream(name, most.unwrap_or(u64::MAX))
    }

    /// Returns the attestation with the digests of the files that it covers. The evidence, the flow log, and the archive are
    /// left out, because they are read as streams. A file that the attestation does not name is not opened.
    fn attestation(self, evidence: &str) -> Attestation {
        let most = |name: &str| self.most(name, MAX_FILE_BYTES);
        let Some(attested) = &self.attested else {
            return Attestation::Absent;
        };
        let mut files = Vec::new();
        for (name, is_file) in &attested.names {
            if !is_file {
                files.push(FileDigest::none(name, "not a regular file"));
            } else if let Some(digest) = attested.read.get(name) {
                files.push(digest.clone());
            } else if !attested.opened.names(name) {
                files.push(FileDigest::none(name, "not named"));
            } else if name != evidence && ![FLOWS_FILE, CHANGES_ARCHIVE].contains(&name.as_str()) {
                let hashed = self.stream(name, most(name)).and_then(|mut stream| {
                    stream.hash_rest()?;
                    Ok(stream.digest(name))
                });
                files
                    .push(hashed.unwrap_or_else(|error| FileDigest::none(name, error.to_string())));
            }
        }
        match self.attested {
            Some(Attested { opened, .. }) => Attestation::Present {
                opened: Box::new(opened),
                files,
            },
            None => Attestation::Absent,
        }
    }
}
