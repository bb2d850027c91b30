//! What the probes found, as data.
use serde::{Deserialize, Serialize};

/// One attempt, its control, and what follows from both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeResult {
    /// Which attempt.
    pub name: String,
    /// What follows.
    pub outcome: Outcome,
    /// The error that the attempt met inside, or what it reached.
    pub detail: String,
    /// What the same attempt met outside, where it had to succeed.
    pub control: Option<Control>,
}

/// What follows from an attempt and its control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It failed inside, and succeeded outside.
    Denied,
    /// It succeeded inside: the boundary has a hole.
    Reachable,
    /// It failed inside, and this machine has nothing that it could reach.
    NotApplicable,
    /// It failed inside, and outside as well, where it had to succeed: the failure proves nothing.
    ControlFailed,
}

impl Outcome {
    /// Whether a run goes on only if the caller accepted this by name.
    pub fn stops_the_run(self) -> bool {
        match self {
            Self::Reachable | Self::ControlFailed => true,
            Self::Denied | Self::NotApplicable => false,
        }
    }

    /// The word in the packet.
    pub fn label(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Reachable => "reachable",
            Self::NotApplicable => "not_applicable",
            Self::ControlFailed => "control_failed",
        }
    }
}

/// The same attempt, made outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Whether it succeeded there.
    pub succeeded: bool,
    /// What it reached, or why it did not.
    pub detail: String,
}

/// Whether all `names` were tried and refused.
pub fn all_denied(results: &[ProbeResult], names: &[&str]) -> bool {
    names.iter().all(|name| {
        results
            .iter()
            .any(|probe| probe.name == *name && probe.outcome == Outcome::Denied)
    })
}
