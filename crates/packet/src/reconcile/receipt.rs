//! The compared members of one receipt.
use sha2::{Digest, Sha256};

/// Layers of receipts for one message of a WebSocket. The WebSocket itself has a separate action. If a side closes the
/// WebSocket while Pipelock 3.2 scans a message, Pipelock denies the message with the layer `body_prompt_injection`.
pub(super) const FRAME_LAYERS: [&str; 8] = [
    "address_protection",
    "body_prompt_injection",
    "cross_request",
    "dlp",
    "media_policy",
    "redaction",
    "response_scan",
    "ws_protocol",
];
/// Layer of every outcome.
pub(super) const OUTCOME_LAYER: &str = "outcome";
/// Layer of the receipt that Pipelock signs at the end of a WebSocket.
pub(super) const CLOSE_LAYER: &str = "session_close";

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Receipt<'a> {
    pub(super) transport: &'a str,
    pub(super) target: &'a str,
    pub(super) verdict: &'a str,
    pub(super) id: &'a str,
    pub(super) layer: &'a str,
    pub(super) phase: &'a str,
    pub(super) method: &'a str,
    pub(super) pattern: &'a str,
    pub(super) time: &'a str,
    pub(super) action_type: &'a str,
    pub(super) side_effects: &'a str,
    pub(super) reversibility: &'a str,
    pub(super) policy_hash: &'a str,
    pub(super) principal: &'a str,
    /// Whether the receipt has a delegation chain. No mediator signs one.
    pub(super) is_delegated: bool,
}

/// Returns the first half of the SHA-256 of texts. Half of a SHA-256 is long enough to make collisions infeasible.
pub(super) fn digest(texts: &[&str]) -> u128 {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(text);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    u128::from_be_bytes(*digest.first_chunk().unwrap_or(&[0; 16]))
}
