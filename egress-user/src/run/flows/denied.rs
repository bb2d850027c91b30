//! Decides which rows of the relay are denials.
use crate::relay::plan::FlowReport;

/// Why one of the relay's rows is a denial; `None` if it is none.
///
/// What moved bytes and then went wrong was not denied: the destination may have all of them.
pub(super) fn reason(flow: &FlowReport) -> Option<String> {
    let is_denied = match flow.verdict.as_str() {
        "refused" | "blocked" => true,
        "answered" => {
            let claimed = flow.claimed.as_ref()?;
            return Some(format!("{}: {claimed}", flow.reason));
        }
        // Without an answer the destination may have the head; one that cannot be reached denies nothing.
        "failed" => {
            let was_answered = flow.status.is_some_and(|status| status != 502);
            let moved = flow.bytes_up > 0 || flow.bytes_down > 0;
            !moved && (flow.head_bytes == 0 || was_answered)
        }
        _ => false,
    };
    is_denied.then(|| flow.reason.clone())
}

/// Whether something of a row that is no denial reached its destination, or came from it.
pub(super) fn went_through(flow: &FlowReport) -> bool {
    let is_own_answer = flow.verdict == "failed" && flow.bytes_up == 0;
    flow.transport.is_some() && !is_own_answer
}

/// Whether the mediator must have allowed it: the request was answered in order, or its tunnel had been opened.
pub(super) fn was_let_through(flow: &FlowReport) -> bool {
    let is_tunnel = matches!(flow.transport.as_deref(), Some("connect" | "websocket"));
    match flow.verdict.as_str() {
        "forwarded" => true,
        "unfinished" => is_tunnel && flow.status.is_some() && flow.bytes_down > 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(verdict: &str, reason: &str, up: u64, down: u64) -> FlowReport {
        FlowReport {
            cookie: 0,
            connect_ns: 0,
            orig_dst: None,
            host: None,
            port: None,
            protocol: String::from("http"),
            transport: Some(String::from("forward")),
            target: None,
            target_bytes: 0,
            head_bytes: 0,
            verdict: verdict.to_owned(),
            reason: reason.to_owned(),
            claimed: None,
            status: None,
            bytes_up: up,
            bytes_down: down,
            duration_us: 0,
        }
    }

    #[test]
    fn what_moved_bytes_was_not_denied() {
        for (verdict, word, up, down, denied, through) in [
            ("forwarded", "", 0, 5, None, true),
            (
                "refused",
                "name_mismatch",
                0,
                0,
                Some("name_mismatch"),
                true,
            ),
            ("blocked", "ssrf:x", 3, 9, Some("ssrf:x"), true),
            ("failed", "mediator_502", 0, 0, Some("mediator_502"), false),
            ("failed", "upstream_failed", 0, 25, None, false),
            ("failed", "malformed_chunk", 9, 0, None, true),
            ("unfinished", "stopped", 0, 0, None, true),
            ("unfinished", "no_answer", 9, 0, None, true),
            ("answered", "answered_403", 9, 9, None, true),
        ] {
            let flow = flow(verdict, word, up, down);
            assert_eq!(reason(&flow).as_deref(), denied, "{verdict} {word}");
            assert!(
                denied.is_some() || went_through(&flow) == through,
                "{verdict} {word}"
            );
        }
    }

    #[test]
    fn an_answer_that_claims_to_be_a_denial_is_named_as_a_claim() {
        let mut flow = flow("answered", "answered_403", 0, 9);
        flow.claimed = Some(String::from("allowlist:not_in_allowlist"));
        let named = reason(&flow);
        assert_eq!(
            named.as_deref(),
            Some("answered_403: allowlist:not_in_allowlist")
        );
    }
}
