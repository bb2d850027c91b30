//! What the command could take, and what of it was reached.
use serde::{Deserialize, Serialize};

use super::super::value::Name;
use super::words::{LimitHolder, OpenFilesHolder};

documents! {
    /// Limits, and which were reached.
    Limits {
        /// Processes and threads of the command at a time.
        processes: Limit,
        /// Memory of the command, its scratch space included, bytes.
        memory: Limit,
        /// Open files of one process.
        open_files: OpenFiles,
        /// Each of the private directories that can be written, bytes.
        scratch: Scratch,
        /// Receipts and flow log together, bytes.
        evidence: EvidenceLimit,
        /// What the run could take of tables that all users of the machine share.
        shares: Shares,
        /// Time, s.
        seconds: Seconds,
    }

    /// A limit that the kernel counts.
    Limit {
        /// The limit.
        most: u64,
        /// What is known at the end.
        reached: Option<Reached>,
    }

    /// What is known of a limit at the end.
    Reached {
        /// What held it.
        held_by: LimitHolder,
        /// How often it was met; absent where nothing counts that.
        times: Option<u64>,
    }

    /// The limit on open files.
    OpenFiles {
        /// The limit.
        most: u64,
        /// What held it.
        held_by: OpenFilesHolder,
    }

    /// The limit on scratch space.
    Scratch {
        /// The limit.
        most: u64,
        /// Directories that were full at the end.
        full_at_the_end: Vec<Name>,
    }

    /// The limit on evidence.
    EvidenceLimit {
        /// The limit.
        most: u64,
    }

    /// Parts of the machine's tables.
    Shares {
        /// Open files, mapped ones included.
        files: u64,
        /// Sockets of any family.
        sockets: u64,
        /// Memory of TCP, bytes.
        tcp_bytes: u64,
        /// Processes and threads.
        processes: u64,
    }

    /// The limit on time.
    Seconds {
        /// The limit, s; absent without one.
        most: Option<u64>,
        /// Whether it ended the command.
        reached: bool,
    }
}
