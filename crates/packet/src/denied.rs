//! Denied attempts, as `boundary.json`, the summary, and the report list them.
use egress_policy::natural;

use super::format::boundary::Denied;
use super::format::rows::RelayRow;
use super::format::words::{RelayVerdict, Transport};

/// Destination of attempts that are counted together because their kinds are too many to be counted separately.
pub const OTHERS: &str = "(others)";

/// Sorts for people: the most frequent attempts first, and equally frequent attempts in natural order. `denied` and
/// `answered` of `boundary.json` have this order, so that their first rows are also the first rows for people.
pub fn in_natural_order<T>(rows: &mut [T], of: impl Fn(&T) -> (&Denied, u64)) {
    rows.sort_by(|a, b| {
        let ((a, a_count), (b, b_count)) = (of(a), of(b));
        let by_count = b_count.cmp(&a_count);
        by_count
            .then_with(|| natural::compare(&a.destination, &b.destination))
            .then_with(|| a.cmp(b))
    });
}

/// Attempts with their numbers.
pub type Attempts = Vec<(Denied, u64)>;

/// Reasons for which the relay denies a later `ClientHello` in an open tunnel and does not send it on. A tunnel that
/// ends with other bytes was cut and not denied, because other bytes do not name a server.
const LATER_HELLO: [&str; 2] = ["encrypted_client_hello", "name_mismatch"];

impl RelayRow {
    /// Returns the reason if the row is a denial or looks like a denial.
    ///
    /// A request that failed after bytes were carried was not denied, because the destination may have received these
    /// bytes.
    pub fn denial(&self) -> Option<String> {
        let is_denied = match self.verdict {
            RelayVerdict::Refused | RelayVerdict::Blocked => true,
            RelayVerdict::Answered => {
                return Some(match &self.claimed {
                    Some(claimed) => format!("{}: {claimed}", self.reason),
                    None => self.reason.clone(),
                });
            }
            // Without an answer, the destination may have received the head. A destination that cannot be reached does
            // not deny.
            RelayVerdict::Failed => {
                let was_answered = self.status.is_some_and(|status| status != 502);
                let moved = self.bytes_up > 0 || self.bytes_down > 0;
                !moved && (self.head_bytes == 0 || was_answered)
            }
            // In this tunnel, the client named another server in a later `ClientHello`.
            RelayVerdict::Unfinished => LATER_HELLO.contains(&self.reason.as_str()),
            RelayVerdict::Forwarded | RelayVerdict::Unknown(_) => false,
        };
        is_denied.then(|| self.reason.clone())
    }

    /// Whether a row that is not a denial may have carried data to or from its destination.
    pub fn went_through(&self) -> bool {
        let is_own_answer = self.verdict == RelayVerdict::Failed && self.bytes_up == 0;
        self.transport.is_some() && !is_own_answer
    }

    /// Whether the mediator must have allowed the request, because it was answered or its tunnel was opened.
    pub fn was_let_through(&self) -> bool {
        let is_tunnel = matches!(
            self.transport,
            Some(Transport::Connect | Transport::Websocket)
        );
        match self.verdict {
            RelayVerdict::Forwarded => true,
            RelayVerdict::Unfinished => is_tunnel && self.status.is_some() && self.bytes_down > 0,
            RelayVerdict::Refused
            | RelayVerdict::Blocked
            | RelayVerdict::Answered
            | RelayVerdict::Failed
            | RelayVerdict::Unknown(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_numbers_as_numbers() {
        let named = |destination: &str| Denied {
            destination: destination.to_owned(),
            ..Denied::default()
        };
        let mut rows: Attempts = ["h10.test", "h2.test", "h1.test", "z.test"]
            .map(|name| (named(name), u64::from(name == "z.test")))
            .into();
        in_natural_order(&mut rows, |(denied, count)| (denied, *count));
        let names: Vec<&str> = rows
            .iter()
            .map(|(one, _)| one.destination.as_str())
            .collect();
        assert_eq!(names, ["z.test", "h1.test", "h2.test", "h10.test"]);
    }

    fn row(verdict: RelayVerdict, reason: &str, up: u64, down: u64) -> RelayRow {
        RelayRow {
            transport: Some(Transport::Forward),
            verdict,
            reason: reason.to_owned(),
            bytes_up: up,
            bytes_down: down,
            ..RelayRow::default()
        }
    }

    #[test]
    fn what_moved_bytes_was_not_denied() {
        use RelayVerdict::{Answered, Blocked, Failed, Forwarded, Refused, Unfinished};
        for (verdict, word, up, down, denied, through) in [
            (Forwarded, "", 0, 5, None, true),
            (Refused, "name_mismatch", 0, 0, Some("name_mismatch"), true),
            (Blocked, "ssrf:x", 3, 9, Some("ssrf:x"), true),
            (Failed, "mediator_502", 0, 0, Some("mediator_502"), false),
            (Failed, "upstream_failed", 0, 25, None, false),
            (Failed, "malformed_chunk", 9, 0, None, true),
            (Unfinished, "stopped", 0, 0, None, true),
            (Unfinished, "no_answer", 9, 0, None, true),
            (
                Unfinished,
                "name_mismatch",
                9,
                9,
                Some("name_mismatch"),
                true,
            ),
            (Unfinished, "client_hello", 9, 9, None, true),
            (Answered, "answered_403", 9, 9, Some("answered_403"), true),
        ] {
            let row = row(verdict.clone(), word, up, down);
            assert_eq!(row.denial().as_deref(), denied, "{verdict:?} {word}");
            assert!(
                denied.is_some() || row.went_through() == through,
                "{verdict:?} {word}"
            );
        }
    }

    #[test]
    fn an_answer_that_claims_to_be_a_denial_is_named_as_a_claim() {
        let row = RelayRow {
            claimed: Some(String::from("allowlist:not_in_allowlist")),
            ..row(RelayVerdict::Answered, "answered_403", 0, 9)
        };
        let named = row.denial();
        assert_eq!(
            named.as_deref(),
            Some("answered_403: allowlist:not_in_allowlist")
        );
    }
}
