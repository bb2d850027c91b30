//! Checks the evidence of one recorder session: lines, outer chain, checkpoints, both receipt chains, sessions, and the
//! end (evidence protocol, sections 4, 8, and 9).
//!
//! Invalid evidence does not make the check return an error. Each violation becomes a finding in the report, and the
//! check continues until one rule has produced enough errors. Each line is read and parsed once. Memory grows by 16
//! bytes for each intent, and with the lists of the report: hosts, policies, actors.
use std::io::{self, Read};

use super::chain::Trust;
use super::report::EvidenceReport;
use checker::Checker;

pub use super::input::{EvidenceFile, Seen, Visit};
pub use single::check_receipt;

mod checker;
mod file;
mod single;

/// Size limit of a single receipt or packet.
pub const MAX_DOCUMENT_BYTES: u64 = 8 << 20;

/// Checks the files of one recorder session, in the order given.
pub fn check_evidence(files: &[EvidenceFile<'_>], trust: &Trust) -> EvidenceReport {
    check_evidence_visiting(files, trust, &mut |_| {})
}

/// Checks like [`check_evidence`], and passes each receipt of either version to `visit`.
pub fn check_evidence_visiting(
    files: &[EvidenceFile<'_>],
    trust: &Trust,
    visit: Visit<'_>,
) -> EvidenceReport {
    let mut check = EvidenceCheck::new(trust, files.len() > 1);
    for file in files {
        // Reading from memory cannot fail.
        if check.file(file.name, &mut &*file.bytes, visit).is_err() {
            check.stop("a file that cannot be read");
        }
    }
    check.finish()
}

/// A check of the files of one recorder session. The check reads the files one after the other and does not keep
/// them in memory.
pub struct EvidenceCheck<'t>(Checker<'t>);

impl<'t> EvidenceCheck<'t> {
    /// Starts a check. With `several_files`, each finding names its file.
    pub fn new(trust: &'t Trust, several_files: bool) -> Self {
        Self(Checker::new(trust, several_files))
    }

    /// Checks the next file. `name` has no directories. A name of the form
    /// `evidence-<session>-<seq>.jsonl` states the session. Returns `false` if the findings are
    /// enough to reject the evidence. The rest of the file was not read in that case.
    ///
    /// # Errors
    /// Fails if the file cannot be read to its end. The part before the error is checked.
    pub fn file(
        &mut self,
        name: &str,
        reader: &mut dyn Read,
        visit: Visit<'_>,
    ) -> io::Result<bool> {
        if !self.0.stopped {
            self.0.file(name, reader, visit)?;
        }
        Ok(!self.0.stopped)
    }

    /// Adds the finding that the rest of the evidence is not read, with the reason `why`.
    pub fn stop(&mut self, why: &str) {
        self.0.stop(why);
    }

    /// Ends the check and returns the report.
    pub fn finish(self) -> EvidenceReport {
        self.0.finish()
    }
}
