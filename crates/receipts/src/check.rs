//! Checks the evidence of one recorder session: lines, outer chain, checkpoints, both receipt
//! chains, sessions, and the end (evidence protocol, sections 4, 8 and 9).
//!
//! Bad evidence is data: everything wrong becomes a finding in the report, and the check goes on
//! behind it until there is enough of it. Each line is read and parsed once. Memory grows with the number of intents,
//! by 16 bytes for each, and with what the report lists: hosts, policies, actors.
use std::io::{self, Read};

use super::chain::Trust;
use super::report::EvidenceReport;
use checker::Checker;

pub use super::input::{EvidenceFile, Seen, Visit};
pub use single::check_receipt;

mod checker;
mod file;
mod single;

/// The largest single receipt or packet.
pub const MAX_DOCUMENT_BYTES: u64 = 8 << 20;

/// Checks the files of one recorder session, in the order given.
pub fn check_evidence(files: &[EvidenceFile<'_>], trust: &Trust) -> EvidenceReport {
    check_evidence_visiting(files, trust, &mut |_| {})
}

/// [`check_evidence`], showing each receipt of either version to `visit`.
pub fn check_evidence_visiting(
    files: &[EvidenceFile<'_>],
    trust: &Trust,
    visit: Visit<'_>,
) -> EvidenceReport {
    let mut check = EvidenceCheck::new(trust, files.len() > 1);
    for file in files {
        // Reading from memory does not fail.
        if check.file(file.name, &mut &*file.bytes, visit).is_err() {
            check.stop("a file that cannot be read");
        }
    }
    check.finish()
}

/// A check of the files of one recorder session, which are read one after the other and never held.
pub struct EvidenceCheck<'t>(Checker<'t>);

impl<'t> EvidenceCheck<'t> {
    /// Begins. With `several_files` each finding names its file.
    pub fn new(trust: &'t Trust, several_files: bool) -> Self {
        Self(Checker::new(trust, several_files))
    }

    /// Checks the next file. Its name without directories may claim a session. `false` when what was found is enough
    /// to reject the evidence, so that the rest of it was not read.
    ///
    /// # Errors
    /// When the file cannot be read to its end. What was read was checked.
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

    /// Notes that the rest is not read, and why.
    pub fn stop(&mut self, why: &str) {
        self.0.stop(why);
    }

    /// What the check says.
    pub fn finish(self) -> EvidenceReport {
        self.0.finish()
    }
}
