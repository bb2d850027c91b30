//! Verifies a packet. Each of its files is opened once, and what is judged is what the attestation is held to.
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use audit_packet::attest::{self, Opened};
use audit_packet::boundary::{Attestation, BoundaryFiles, PolicyFile};
use audit_packet::check::{PacketFiles, PacketReport, Pinned, check_packet, read_packet};
use audit_packet::identity::Identity;
use audit_packet::rendered::Found;
use audit_packet::stream::{FileDigest, Stream};
use audit_packet::timestamp::MOST_BYTES;
use audit_packet::{
    ATTESTATION_FILE, BOUNDARY_FILE, CAPSULE_FILE, CHANGES_FILE, FLOWS_FILE, IDENTITY_FILE,
    PACKET_FILE, POLICY_FILE, REPORT_FILE, SUMMARY_FILE, TIMESTAMP_FILE, VERIFIER_FILE,
};
use egress_policy::allowed::Allowed;
use pipelock_receipts::check::MAX_DOCUMENT_BYTES;

use super::outcome::{Material, Outcome, Subject, VerifyError};
use crate::cli::files::{Folder, read_all};

/// The largest list of changes that is held, where nobody that is trusted states its size.
const MAX_CHANGES_BYTES: u64 = 512 << 20;
/// The largest file that is hashed, where nobody that is trusted states its size.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// Verifies the packet at `path` and the files beside it. `bytes` are those of the packet, if they have been read.
pub(super) fn verify(
    path: &Path,
    bytes: Option<Vec<u8>>,
    pinned: &Pinned,
) -> Result<Outcome, VerifyError> {
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
        let file = folder.open(&name, MAX_DOCUMENT_BYTES);
        file.and_then(|file| read_all(file, MAX_DOCUMENT_BYTES))
            .map_err(failed)?
    };
    let packet = match read_packet(&bytes) {
        Ok(packet) => packet,
        Err(findings) => return Ok(Outcome::unusable(findings)),
    };
    let mut beside = Beside::read(folder, directory, pinned)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    beside.note(&name, &bytes);
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
    Ok(Outcome {
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

/// What stands beside `packet.json`.
struct Beside {
    folder: Folder,
    path: PathBuf,
    /// `attestation.json`, as it was read.
    attestation: Option<Vec<u8>>,
    attested: Option<Attested>,
}

/// The files of a packet that is attested.
struct Attested {
    opened: Opened,
    /// Every name in the directory but the attestation's, and whether it is a regular file. A file that comes later is
    /// not read.
    names: BTreeMap<String, bool>,
    /// What was read.
    read: BTreeMap<String, FileDigest>,
}

impl Beside {
    /// Reads the attestation, which says what else there is, and lists the directory.
    fn read(folder: Folder, path: &Path, pinned: &Pinned) -> Result<Self, VerifyError> {
        let mut beside = Self {
            folder,
            path: path.to_owned(),
            attestation: None,
            attested: None,
        };
        if let Some(bytes) = beside.document(ATTESTATION_FILE)? {
            let is_held = |name: &str| ![ATTESTATION_FILE, TIMESTAMP_FILE].contains(&name);
            let list = beside.folder.list(is_held);
            let names = list.map_err(|source| VerifyError::read(path, source))?;
            beside.attested = Some(Attested {
                opened: attest::open(&bytes, &pinned.boundary),
                names,
                read: BTreeMap::new(),
            });
            beside.attestation = Some(bytes);
        }
        Ok(beside)
    }

    /// Whether there is a file of this name.
    fn has(&self, name: &str) -> bool {
        match &self.attested {
            Some(attested) => attested.names.contains_key(name),
            None => self.folder.has(name),
        }
    }

    /// Notes what was read of a file.
    fn note(&mut self, name: &str, bytes: &[u8]) {
        if let Some(attested) = &mut self.attested {
            let digest = FileDigest::of(name, bytes);
            attested.read.insert(name.to_owned(), digest);
        }
    }

    /// How many bytes of a file are read: as many as a trusted key states, otherwise a fixed number of them.
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
        let bytes = self
            .folder
            .open(name, most)
            .and_then(|file| read_all(file, most))
            .map_err(|source| VerifyError::read(&self.path.join(name), source))?;
        self.note(name, &bytes);
        Ok(Some(bytes))
    }

    /// Reads a document that may be absent. It is short, whatever is stated of it.
    fn document(&mut self, name: &str) -> Result<Option<Vec<u8>>, VerifyError> {
        self.optional(name, MAX_DOCUMENT_BYTES)
    }

    /// The time stamp, which covers the attestation and is therefore not named by it.
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

    /// The evidence. Its check ends at the first line that no writer writes, so that it needs no other bound.
    fn evidence(&self, name: &str) -> io::Result<Stream<'static>> {
        let is_trusted = |attested: &&Attested| attested.opened.is_trusted();
        let most = self
            .attested
            .as_ref()
            .filter(is_trusted)
            .and_then(|attested| attested.opened.size(name));
        self.stream(name, most.unwrap_or(u64::MAX))
    }

    /// The attestation, and every file that it is held to except for the two streams. A file that it does not name is
    /// not opened.
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
            } else if name != evidence && name != FLOWS_FILE {
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
