//! The facts about a finished run, from which its packet is written.
use std::path::PathBuf;

use audit_packet::denied::Attempts;
use audit_packet::format::boundary::{CommandFile, Counters, Output, Program, Unavailable};
use egress_sandbox::limits::LimitReport;
use egress_sys::privileges::Enforced;
use egress_workspace::apply::Concluded;
use pipelock_receipts::capsule::Signed;

use super::context::RunContext;
use super::ending::Ending;
use super::flows::FlowCounts;
use super::mediator::{MediatorRecord, PolicyInForce};
use crate::bpf::links::Link;

/// All facts about a finished run.
#[derive(Debug)]
pub(super) struct RunFacts {
    pub(super) ending: Ending,
    /// Reasons why the record is not complete. Empty if the record is complete.
    pub(super) incomplete: Vec<String>,
    /// Whether a part of the run failed, whatever the command's own end was.
    pub(super) helper_failed: bool,
    /// Path and bytes of each evidence file, in the order of the file numbers.
    pub(super) evidence: Vec<(PathBuf, Vec<u8>)>,
    /// Why there is nothing to verify, if the mode does not write receipts.
    pub(super) unverified: Option<&'static str>,
    /// Bytes of the flow log.
    pub(super) flows: Vec<u8>,
    pub(super) counts: FlowCounts,
    /// Hash of the flow log's last row.
    pub(super) flow_head: String,
    /// Number of the flow log's rows.
    pub(super) flow_rows: u64,
    /// Kinds of denied attempts with their counts, the most frequent first.
    pub(super) denied: Attempts,
    /// Answers that look like a denial and that no receipt confirms, in the same form.
    pub(super) answered: Attempts,
    /// Connections to ports of the boundary's loopback on which nothing listened, with their counts.
    pub(super) unserved: Attempts,
    /// Host, port, and number of the requests and tunnels that went through.
    pub(super) allowed: Vec<(String, u16, u64)>,
    pub(super) counters: Counters,
    /// Kernel programs that were attached.
    pub(super) programs: Vec<Program>,
    /// Kernel programs that this kernel has no hook for.
    pub(super) unavailable: Vec<Unavailable>,
    /// Where the programs were attached at the start.
    pub(super) links: Vec<Link>,
    /// The state of the command's first process after it dropped its privileges.
    pub(super) enforced: Enforced,
    pub(super) policy: PolicyInForce,
    /// The posture capsule that the mediator's session binds. A run in audit mode has no capsule.
    pub(super) capsule: Option<Signed>,
    pub(super) mediator: MediatorRecord,
    /// When the command was executed.
    pub(super) started_at: String,
    /// When the command ended.
    pub(super) completed_at: String,
    /// The command's changes to the workspace, if they were stored separately.
    pub(super) workspace: Option<Concluded>,
    /// Files that the command wrote for the runner. These files are not passed to the runner.
    pub(super) command_files: Vec<CommandFile>,
    pub(super) reached: LimitsReached,
    /// Counts for the command's output.
    pub(super) output: Output,
    pub(super) context: RunContext,
}

/// Limits that the command reached.
#[derive(Debug)]
pub(super) struct LimitsReached {
    /// Processes and memory.
    pub(super) cgroups: Option<LimitReport>,
    /// Scratch directories that are full.
    pub(super) full: Vec<PathBuf>,
}
