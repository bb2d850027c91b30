//! The attempts to break out that were made before the start.
use serde::{Deserialize, Serialize};

use super::super::value::Name;
use super::words::ProbeOutcome;

documents! {
    /// The probes.
    Probes {
        [
            /// One for each. Each name is there at most once.
            results: Vec<Probe>,
        ]
        /// Results by outcome.
        counts: ProbeCounts,
        /// Probes whose failure the caller accepted.
        accepted_risks: Vec<Name>,
        /// Attempts that the kernel programs recorded.
        seen_by_hooks: u64,
    }

    /// One probe.
    Probe {
        [
            /// Which.
            name: Name,
            /// What follows from it.
            outcome: ProbeOutcome,
            /// The error that it met inside, or what it reached.
            detail: Name,
        ]
        /// The same attempt, made outside.
        control: Control,
    }

    /// The same attempt, made outside.
    Control {
        /// Whether it succeeded there.
        succeeded: bool,
        /// What it met.
        detail: Name,
    }

    /// Probes by outcome.
    ProbeCounts {
        [
            /// Failed inside, succeeded outside.
            denied: u64,
            /// Succeeded inside.
            reachable: u64,
            /// This machine has nothing to reach.
            not_applicable: u64,
            /// Prove nothing.
            control_failed: u64,
        ]
    }
}
