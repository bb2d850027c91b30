//! Verifies evidence without a packet: one file, or a directory of recorder files.
use std::fs;
use std::io::Read;
use std::path::Path;

use audit_packet::{CAPSULE_FILE, EVIDENCE_FILE, PACKET_FILES, POLICY_FILE};
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::EvidenceCheck;
use pipelock_receipts::outer::claimed_name;

use super::outcome::{Subject, VerifyError, VerifyOutcome};
use crate::cli::files::Folder;

/// Verifies one file of evidence.
pub(super) fn verify_file(
    path: &Path,
    reader: &mut dyn Read,
    trust: &Trust,
) -> Result<VerifyOutcome, VerifyError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut check = EvidenceCheck::new(trust, false);
    check
        .file(&name, reader, &mut |_seen| {})
        .map_err(|source| VerifyError::read(path, source))?;
    Ok(VerifyOutcome::of_report(Subject::Evidence, check.finish()))
}

/// Verifies the evidence files of a directory in the order of their numbers. Rejects a symbolic link, because it could
/// lead to any file.
pub(super) fn verify_directory(path: &Path, trust: &Trust) -> Result<VerifyOutcome, VerifyError> {
    let io = |source| VerifyError::read(path, source);
    let folder = Folder::hold(path).map_err(io)?;
    let names = folder
        .list(|name| claimed_name(name).is_some())
        .map_err(io)?;
    let mut files: Vec<_> = names
        .keys()
        .filter_map(|name| Some((claimed_name(name)?, name)))
        .collect();
    files.sort();
    let mut check = EvidenceCheck::new(trust, files.len() > 1);
    for (_, name) in files {
        let failed = |source| VerifyError::read(&path.join(name), source);
        let mut file = folder.open_itself(name).map_err(failed)?;
        let goes_on = check
            .file(name, &mut file, &mut |_seen| {})
            .map_err(failed)?;
        if !goes_on {
            break;
        }
    }
    Ok(VerifyOutcome::of_report(Subject::Evidence, check.finish()))
}

/// Returns the name of a file in `directory` that only a packet has. Pipelock's own tools also store a capsule beside
/// evidence files, and a caller's directory often contains a `policy.yaml`.
pub(super) fn part_of_a_packet(directory: &Path) -> Option<&'static str> {
    let is_shared = |name: &str| [EVIDENCE_FILE, CAPSULE_FILE, POLICY_FILE].contains(&name);
    let mut names = PACKET_FILES.into_iter().filter(|name| !is_shared(name));
    names.find(|name| fs::symlink_metadata(directory.join(name)).is_ok())
}
