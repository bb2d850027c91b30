//! What there is to say of one Pipelock when it has ended: for `boundary.json`, and for people.
use std::path::PathBuf;

use egress_policy::notices::Notice;
use egress_policy::pipelock::RECEIPT_GATE;
use serde::Serialize;

use super::start::Binding;

/// What there is to say of one Pipelock, for `boundary.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// The program as it was named or found.
    pub given: PathBuf,
    /// SHA-256 of the copy that was executed.
    pub binary_sha256: Option<String>,
    /// What it says of its version.
    pub version: Option<String>,
    /// SHA-256 of the roots that were given to it.
    pub roots_sha256: Option<String>,
    /// What came of the posture capsule.
    pub posture: Option<Binding>,
    /// Limits that were raised.
    pub raised: Vec<String>,
    /// Whether it was told to redact secrets in its evidence.
    pub redact: bool,
    /// Keys that it does not know.
    pub left_out: Vec<String>,
    /// What the caller's own keys do.
    pub notices: Vec<Notice>,
    /// Allowed actions that the relay saw, and those that have their receipt.
    pub allowed: [u64; 2],
    /// Whether it had to be killed.
    pub killed: bool,
    /// What went differently without a loss.
    pub notes: Vec<String>,
}

impl Facts {
    /// What people should know of it, one line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .notices
            .iter()
            .map(|notice| format!("policy: {notice}"))
            .collect();
        if self.posture == Some(Binding::NotKnown) {
            lines.push(String::from(
                "this Pipelock is older than 3.1: its receipts do not sign the boundary",
            ));
        }
        for key in &self.left_out {
            lines.push(format!(
                "this Pipelock does not know {key}, which was left out"
            ));
        }
        // Seen in 2.x, which is what does not know the gate.
        if self.redact && self.left_out.iter().any(|key| key == RECEIPT_GATE) {
            lines.push(String::from(
                "this Pipelock may redact a receipt after it has signed it: a secret in a URL then makes \
                 the evidence invalid; `flight_recorder: {redact: false}` keeps the signature and \
                 shows the secret",
            ));
        }
        if !self.raised.is_empty() {
            lines.push(format!("limits were raised: {}", self.raised.join(", ")));
        }
        lines.extend(self.notes.iter().cloned());
        lines
    }
}
