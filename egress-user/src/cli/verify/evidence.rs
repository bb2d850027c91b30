//! Verifies evidence that comes without a packet: one file, or a directory of recorder files.
use std::io::Read;
use std::path::Path;

use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::EvidenceCheck;
use pipelock_receipts::outer::claimed_name;

use super::files::{Folder, read_error};
use super::{Outcome, Subject, VerifyError, of_report};

/// Verifies one file of evidence.
pub(super) fn verify_file(
    path: &Path,
    reader: &mut dyn Read,
    trust: &Trust,
) -> Result<Outcome, VerifyError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut check = EvidenceCheck::new(trust, false);
    check
        .file(&name, reader, &mut |_seen| {})
        .map_err(|source| read_error(path, source))?;
    Ok(of_report(Subject::Evidence, check.finish()))
}

/// Verifies the evidence files of a directory, in the order of their numbers. A symbolic link among
/// them is refused: it could stand for any file.
pub(super) fn verify_directory(path: &Path, trust: &Trust) -> Result<Outcome, VerifyError> {
    let io = |source| read_error(path, source);
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
        let failed = |source| read_error(&path.join(name), source);
        let mut file = folder.open_itself(name).map_err(failed)?;
        let goes_on = check
            .file(name, &mut file, &mut |_seen| {})
            .map_err(failed)?;
        if !goes_on {
            break;
        }
    }
    Ok(of_report(Subject::Evidence, check.finish()))
}
