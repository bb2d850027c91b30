//! Reads the outcome of an action from its receipt.

/// The reason of an action that ended normally.
pub(super) const COMPLETE: &str = "complete";
/// Reasons of outcomes without a connection to the origin, each with its possible statuses.
const NOT_REACHED: [(&str, &[u16]); 3] = [
    ("dial_failed", &[502]),
    ("upstream_dial_failed", &[502, 1011]),
    ("ssrf_dns_rebind", &[403, 1008]),
];
/// Reason of an outcome with a connection to the origin and without a valid answer. The status of such an outcome is
/// 400 if the built-in mediator cannot send the handshake of a WebSocket.
const NOT_ANSWERED: (&str, &[u16]) = ("fetch_failed", &[400, 502]);
/// Reason of an outcome in which a Pipelock may leave out both the status and the bytes.
const INCOMPLETE: &str = "incomplete";
/// Reason with which a Pipelock ends a WebSocket because of a message.
const BY_POLICY: &str = "policy_blocked";
/// The word that replaces a number that a Pipelock cannot state.
const UNKNOWN: &str = "unknown";

/// The parsed pattern of an outcome, such as `status=200 bytes=47 reason=complete`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutcomeReceipt {
    pub(super) status: Option<u16>,
    pub(super) bytes: Option<u64>,
    pub(super) reason: String,
    /// Whether the pattern is exactly one outcome, and the status and the bytes are each a number or
    /// [`UNKNOWN`].
    is_exact: bool,
}

impl OutcomeReceipt {
    pub(super) fn read(pattern: &str) -> Self {
        let word = |name: &str| {
            let mut words = pattern.split(' ');
            words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let status: Option<u16> = word("status").and_then(|text| text.parse().ok());
        let bytes: Option<u64> = word("bytes").and_then(|text| text.parse().ok());
        let reason = word("reason").unwrap_or_default();
        let status_text = status.map_or_else(|| UNKNOWN.to_owned(), |status| status.to_string());
        let bytes_text = bytes.map_or_else(|| UNKNOWN.to_owned(), |bytes| bytes.to_string());
        Self {
            status,
            bytes,
            reason: reason.to_owned(),
            is_exact: pattern == format!("status={status_text} bytes={bytes_text} reason={reason}"),
        }
    }

    /// Returns whether the mediator did not reach the origin.
    pub(super) fn is_not_reached(&self) -> bool {
        NOT_REACHED.iter().any(|(reason, _)| *reason == self.reason)
    }

    /// Returns whether the origin did not answer.
    pub(super) fn is_not_answered(&self) -> bool {
        self.reason == NOT_ANSWERED.0
    }

    /// Returns three flags. The first states that no mediator writes an outcome like this one. The second states that a
    /// possible outcome leaves out a number, and the third that its status is 0. Only some mediators write such
    /// outcomes. A Pipelock states both numbers of a complete action, and the status of every action that did not end
    /// before its answer. The built-in mediator always states both numbers, and the status 0 before an answer.
    pub(super) fn faults(&self) -> [bool; 3] {
        let has_its_numbers = match (self.status, self.bytes) {
            (Some(_), Some(_)) => true,
            (Some(_), None) => self.reason != COMPLETE,
            (None, None) => self.reason == INCOMPLETE,
            (None, Some(_)) => false,
        };
        let is_possible = self.is_exact
            && has_its_numbers
            && !self.reason.is_empty()
            && self.has_numbers_of_its_reason();
        let has_numbers = self.status.is_some() && self.bytes.is_some();
        [
            !is_possible,
            is_possible && !has_numbers,
            is_possible && self.status == Some(0),
        ]
    }

    /// Whether the numbers fit the reason, if the reason is a failure. Without a connection, no byte was sent.
    fn has_numbers_of_its_reason(&self) -> bool {
        let mut failures = NOT_REACHED.iter().chain([&NOT_ANSWERED]);
        let has_status = failures
            .find(|(reason, _)| *reason == self.reason)
            .is_none_or(|(_, statuses)| self.status.is_some_and(|one| statuses.contains(&one)));
        has_status && (!self.is_not_reached() || self.bytes.unwrap_or(0) == 0)
    }

    /// Returns whether the close of a WebSocket after this outcome is a denial. Returns `None` if
    /// no close follows.
    pub(super) fn close_is_denial(&self) -> Option<bool> {
        match self.reason.as_str() {
            BY_POLICY => Some(true),
            COMPLETE => Some(false),
            _ => None,
        }
    }
}
