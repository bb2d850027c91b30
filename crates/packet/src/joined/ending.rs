//! Checks that the relay can have ended a request as its row states: the verdict, the reason, and the status.
use super::super::format::boundary::BoundaryDocument;
use super::super::format::rows::RelayRow;
use super::super::format::{RelayVerdict, Transport};
use super::{Joined, RareEnd};

#[cfg(test)]
mod tests;

/// Maximum length of each word of a denial.
const LONGEST_WORD: usize = 64;
/// Statuses of answers that look like a denial.
const OF_DENIALS: [u16; 3] = [403, 429, 503];
/// Statuses of answers to CONNECT that are always denials.
const OF_TUNNELS: [u16; 2] = [403, 429];
/// Minimum number of bytes of a `ClientHello`: the headers of its record and of its message, its version, and its random.
const SHORTEST_HELLO: u64 = 43;
/// Minimum time without traffic after which the relay cuts a tunnel, µs.
const IDLE: u64 = 600_000_000;
/// Reasons for which the relay cuts a tunnel because of bytes that the command sent.
const OF_HELLOS: [&str; 3] = ["client_hello", "encrypted_client_hello", "name_mismatch"];

impl Joined {
    /// Checks the end of one request that was sent to the mediator.
    pub(super) fn ending(&mut self, row: &RelayRow) {
        let is_answer = row.verdict == RelayVerdict::Answered;
        self.require(
            row.claimed.is_none() || is_answer,
            "a row of the relay has the words of a denial, but is not answered",
        );
        if row.transport.is_none() || matches!(row.transport, Some(Transport::Unknown(_))) {
            return;
        }
        let is_tunnel = row.transport == Some(Transport::Connect);
        match row.verdict {
            RelayVerdict::Answered => self.note_end(true, RareEnd::Answered),
            RelayVerdict::Blocked => {
                self.note_end(!is_tunnel, RareEnd::MarkedDenial);
                let has_layer = row.reason.contains(':') || is_of_status(row, "mediator_");
                self.note_end(!has_layer, RareEnd::WithoutLayer);
            }
            RelayVerdict::Forwarded
            | RelayVerdict::Refused
            | RelayVerdict::Failed
            | RelayVerdict::Unfinished
            | RelayVerdict::Unknown(_) => {}
        }
        self.require(
            is_possible_end(row),
            format!(
                "a request with the transport {} and the protocol {} is {} with the reason {:?}",
                row.asked().unwrap_or_default(),
                row.protocol,
                row.verdict,
                row.reason
            ),
        );
        if row.is_sealed_tunnel() {
            self.require(
                has_possible_bytes(row),
                format!(
                    "a tunnel that is {} with the reason {:?} carried {} bytes to the mediator and {} bytes to the command",
                    row.verdict, row.reason, row.bytes_up, row.bytes_down
                ),
            );
        }
        // Without an answer, the relay may also have dropped the request when the command closed its connection.
        let is_stopped = row.reason == "stopped" && row.status.is_some();
        self.note_end(is_stopped && self.gone.is_none(), RareEnd::StoppedEarly);
    }

    fn note_end(&mut self, is_seen: bool, end: RareEnd) {
        if is_seen {
            self.ends.insert(end);
        }
    }

    /// Requires that the relay stopped after the command's end, as the supervisor ends a run.
    pub(super) fn stopped(&mut self) {
        let fits = !self.ends.contains(&RareEnd::StoppedEarly) || self.gone.is_none();
        self.require(
            fits,
            "the relay cut a request because it stopped, before the end of the command was recorded",
        );
    }

    /// Compares the denials in the rows with the mediator that `boundary.json` states. Only the answers of the built-in
    /// mediator have a mark, and they name the layer.
    pub(super) fn denials(&mut self, boundary_document: &BoundaryDocument) {
        let mediator = &boundary_document.mediator;
        let has = |end| self.ends.contains(&end);
        let fits = if mediator.is_builtin() {
            !has(RareEnd::Answered) && !has(RareEnd::WithoutLayer)
        } else {
            mediator.pipelock().is_none() || !has(RareEnd::MarkedDenial)
        };
        self.require(fits, "the relay recognized denials of another mediator");
    }
}

/// Whether a tunnel can have carried these bytes. Only an open tunnel carries bytes. It first carries a `ClientHello`,
/// and it ends normally only after an answer.
fn has_possible_bytes(row: &RelayRow) -> bool {
    let (up, down) = (row.bytes_up, row.bytes_down);
    match row.verdict {
        RelayVerdict::Blocked | RelayVerdict::Failed => (up, down) == (0, 0),
        RelayVerdict::Forwarded => up >= SHORTEST_HELLO && down > 0,
        RelayVerdict::Unfinished => {
            let without_answer = ["no_answer", "stopped"].contains(&row.reason.as_str())
                || OF_HELLOS.contains(&row.reason.as_str());
            up >= SHORTEST_HELLO && (down > 0 || without_answer)
        }
        RelayVerdict::Answered | RelayVerdict::Refused | RelayVerdict::Unknown(_) => true,
    }
}

/// Whether the reason is `start` and the status.
fn is_of_status(row: &RelayRow, start: &str) -> bool {
    row.status
        .is_some_and(|status| row.reason == format!("{start}{status}"))
}

fn is_possible_end(row: &RelayRow) -> bool {
    let reason = row.reason.as_str();
    let is_tunnel = row.transport == Some(Transport::Connect);
    match row.verdict {
        RelayVerdict::Blocked => are_words(reason),
        RelayVerdict::Answered => {
            let is_denial = row
                .status
                .is_some_and(|status| OF_DENIALS.contains(&status));
            let words = row.claimed.as_deref();
            !is_tunnel && is_denial && is_of_status(row, "answered_") && words.is_none_or(are_words)
        }
        RelayVerdict::Failed => match reason {
            "malformed_chunk" | "trailer_fields" => row.protocol == "http",
            "upstream_failed" => matches!(row.status, None | Some(502)),
            "client_closed"
            | "malformed_target"
            | "mediator_closed"
            | "mediator_timeout"
            | "mediator_unreachable"
            | "stopped" => row.status.is_none(),
            _ => {
                let is_denial = row
                    .status
                    .is_some_and(|status| OF_TUNNELS.contains(&status));
                is_of_status(row, "mediator_") && !(is_tunnel && is_denial)
            }
        },
        RelayVerdict::Unfinished => is_possible_cut(row),
        RelayVerdict::Forwarded | RelayVerdict::Refused | RelayVerdict::Unknown(_) => true,
    }
}

/// Whether the relay can have cut a request for this reason.
fn is_possible_cut(row: &RelayRow) -> bool {
    let is_sealed = row.is_sealed_tunnel();
    let has_answer = row.status.is_some();
    let fits = match row.reason.as_str() {
        "client_closed" | "mediator_closed" | "stopped" => true,
        "mediator_timeout" | "mediator_unreachable" | "upstream_failed" => !has_answer,
        // The answer is that of another protocol, although the request did not ask for one.
        "mediator_status" => row.protocol == "http" && !has_answer,
        "idle" => (is_sealed || row.protocol == "websocket") && row.duration_us >= IDLE,
        "no_answer" => is_sealed && row.bytes_down == 0,
        reason if OF_HELLOS.contains(&reason) => is_sealed,
        "answer_cut" => row.transport == Some(Transport::Forward) && has_answer,
        "early_answer" => row.protocol == "http" && has_answer,
        "unmasked_frame" => row.protocol == "websocket" && has_answer,
        _ => false,
    };
    fits && (!is_sealed || row.status == Some(200))
}

/// Whether a text has the form of the words of a denial: a layer and a reason, or one of the two.
fn are_words(text: &str) -> bool {
    let is_word = |word: &str| {
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        (1..=LONGEST_WORD).contains(&word.len()) && word.bytes().all(is_known)
    };
    match text.split_once(':') {
        Some((layer, reason)) => is_word(layer) && is_word(reason),
        None => is_word(text),
    }
}
