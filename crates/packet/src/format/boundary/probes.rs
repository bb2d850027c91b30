//! The probes in `boundary.json`.
use serde::{Deserialize, Serialize};

use super::super::value::Name;
use super::words::ProbeOutcome;

documents! {
    /// The probes.
    Probes {
        [
            /// One result for each probe. Each name occurs at most once.
            results: Vec<Probe>,
        ]
        /// Number of probes by outcome.
        counts: ProbeCounts,
        /// Names of the probes that the caller gave with `--accept-risk`.
        accepted_risks: Vec<Name>,
        /// Number of attempts of the probes that the kernel programs recorded.
        seen_by_hooks: u64,
    }

    /// The result of one probe.
    Probe {
        [
            /// Name of the probe.
            name: Name,
            /// Outcome of the probe and its control together.
            outcome: ProbeOutcome,
            /// Error inside the boundary, or target that the probe reached.
            detail: Name,
        ]
        /// The control: the same attempt outside the boundary.
        control: Control,
    }

    /// The same attempt outside the boundary.
    Control {
        /// Whether the attempt succeeded outside.
        succeeded: bool,
        /// Target that the attempt reached, or the reason why it failed.
        detail: Name,
    }

    /// Number of probes by outcome.
    ProbeCounts {
        [
            /// Probes that failed inside and whose control succeeded.
            denied: u64,
            /// Probes that succeeded inside.
            reachable: u64,
            /// Probes whose target does not exist on this machine, or may be read by the command.
            not_applicable: u64,
            /// Probes that prove nothing, because the control failed or the probe could not run.
            control_failed: u64,
        ]
    }
}
