//! The record of one Pipelock for `boundary.json`, and its notices for the caller.
use std::path::PathBuf;

use egress_policy::notices::Notice;
use egress_policy::pipelock::RECEIPT_GATE;
use serde::Serialize;

use super::start::Binding;

/// The record of one Pipelock in `boundary.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// Path of the binary, as the caller gave it or as it was found on `PATH`.
    pub given: PathBuf,
    /// SHA-256 of the copy that was executed.
    pub binary_sha256: Option<String>,
    /// Output of `pipelock --version`.
    pub version: Option<String>,
    /// SHA-256 of the file with root certificates, if one was given.
    pub roots_sha256: Option<String>,
    /// Whether Pipelock's session binds the posture capsule.
    pub posture: Option<Binding>,
    /// Limits that were raised.
    pub raised: Vec<String>,
    /// Whether Pipelock was configured to redact secrets in its evidence.
    pub redact: bool,
    /// Configuration keys that this Pipelock does not support.
    pub left_out: Vec<String>,
    /// Effects of the keys in the caller's policy.
    pub notices: Vec<Notice>,
    /// Numbers of allowed actions: in the relay's flows, and with a receipt.
    pub allowed: [u64; 2],
    /// Whether Pipelock was killed.
    pub killed: bool,
    /// Irregularities that did not lose evidence.
    pub notes: Vec<String>,
}

impl Facts {
    /// Returns the notice about limits that were raised, if there are any. Nearly every run has this long notice, which
    /// does not require any action.
    pub fn raised_limits(&self) -> Option<String> {
        (!self.raised.is_empty()).then(|| format!("limits were raised: {}", self.raised.join(", ")))
    }

    /// Returns the other notices for the caller, one per line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .notices
            .iter()
            .map(|notice| format!("policy: {notice}"))
            .collect();
        if self.posture == Some(Binding::NotKnown) {
            lines.push(String::from(
                "this Pipelock is older than 3.1, so its receipts do not sign the boundary",
            ));
        }
        for key in &self.left_out {
            lines.push(format!(
                "this Pipelock does not support {key}, which was left out"
            ));
        }
        // Versions before 2.8 redact a receipt after they have signed it. These versions do not support
        // `require_receipts` either.
        if self.redact && self.left_out.iter().any(|key| key == RECEIPT_GATE) {
            lines.push(String::from(
                "this Pipelock may redact a receipt after signing it, so a secret in a URL makes \
                 the evidence invalid; `flight_recorder: {redact: false}` keeps the signature and \
                 shows the secret",
            ));
        }
        lines.extend(self.notes.iter().cloned());
        lines
    }
}
