//! The limits of the command in `boundary.json`, and whether they were reached.
use serde::{Deserialize, Serialize};

use super::super::value::Name;
use super::words::{LimitHolder, OpenFilesHolder};

documents! {
    /// Limits of the run, and whether some of these limits were reached.
    Limits {
        /// Limit on concurrent processes and threads of the command.
        processes: Limit,
        /// Limit on the command's memory, including its scratch space, bytes.
        memory: Limit,
        /// Limit on open files of one process.
        open_files: OpenFiles,
        /// Limit on each private directory that the command can write, bytes.
        scratch: Scratch,
        /// Limit on receipts and flow log together, bytes.
        evidence: EvidenceLimit,
        /// The run's limits in tables that all users of the machine share.
        shares: Shares,
        /// Limit on the run time, s.
        seconds: Seconds,
    }

    /// A limit that a kernel mechanism enforces.
    Limit {
        /// The limit.
        most: u64,
        /// The mechanism that enforced the limit, and the number of times that the limit was reached. Null if the
        /// mechanism could not be read.
        reached: Option<Reached>,
    }

    /// The state of a limit at the end of the run.
    Reached {
        /// The kernel mechanism that enforced the limit.
        held_by: LimitHolder,
        /// Number of times that the limit was reached. Null if the mechanism does not count it.
        times: Option<u64>,
    }

    /// The limit on open files.
    OpenFiles {
        /// The limit.
        most: u64,
        /// The kernel mechanism that enforced the limit.
        held_by: OpenFilesHolder,
    }

    /// The limit on scratch space.
    Scratch {
        /// The limit.
        most: u64,
        /// Directories that were full when the command ended.
        full_at_the_end: Vec<Name>,
    }

    /// The limit on evidence.
    EvidenceLimit {
        /// The limit.
        most: u64,
    }

    /// The run's shares of the machine's tables.
    Shares {
        /// Limit on open and memory-mapped files.
        files: u64,
        /// Limit on sockets of any family.
        sockets: u64,
        /// Limit on kernel memory for TCP buffers, bytes.
        tcp_bytes: u64,
        /// Limit on processes and threads.
        processes: u64,
    }

    /// The limit on time.
    Seconds {
        /// The limit, s. Null if the run had no limit.
        most: Option<u64>,
        /// Whether the limit ended the command.
        reached: bool,
    }
}
