//! The list of lies, and whether each can be detected.
use super::lie::Expected::{self, Named, Senseless, Unknowable};
use super::lie::{Lie, TRUTH};
use super::testimony::Testimony;
use super::{combined, endings, entries, parts, sizes, tales};

const OWN_WORDS: Expected =
    Unknowable("only the mediator writes this text, and no other record depends on it");
const ONLY_A_PIPELOCK: Expected =
    Unknowable("a Pipelock writes this in ordinary runs, and no other record depends on it");
const NO_PORT: Expected = Senseless;
const NO_OUTCOMES: Expected = Senseless;
const REFUSED_LIKE_AN_ORIGIN: Expected = Unknowable(
    "an origin may answer plain HTTP with the same page, and this Pipelock does not sign a receipt for some of its denials",
);
const USERS_OF_THE_COMMAND: Expected = Unknowable(
    "a Pipelock signs the target as the command wrote it, and the relay records no user information",
);
const WITHIN_BOUNDS: Expected = Unknowable(
    "a mediator does not count the bytes of a tunnel at its sockets, so they are compared as bounds",
);
const CUT_WITHIN_BOUNDS: Expected = Unknowable(
    "a mediator that is cut counts fewer bytes than the relay, so its bytes are compared as bounds",
);
const MESSAGES: Expected = Unknowable(
    "only the mediator reads messages, and a Pipelock does not sign messages that it cannot read",
);
const WEBSOCKETS_THAT_FAILED: Expected = Unknowable(
    "this Pipelock agrees to a WebSocket before it connects, and does not sign a receipt if it cannot connect",
);
const LAYERS: Expected =
    Unknowable("the answer of a Pipelock does not name the layer that denied the request");
const CONTENT_OF_MESSAGES: Expected = Unknowable(
    "a Pipelock counts the content of messages, and the relay counts frames, so bytes are compared as a bound",
);
const INSIDE_A_DOCUMENT: Expected = Unknowable(
    "the status of the origin is inside the document with which a Pipelock answers a fetch",
);
const SHARED_CONNECTIONS: Expected = Unknowable(
    "a Pipelock answers 502 to each failure, and its connections cannot be assigned to actions",
);
const WITHOUT_PHASES: Expected =
    Unknowable("this Pipelock does not sign phases, so the form of its receipts shows less");
const WITHIN_THE_RUN: Expected = Unknowable(
    "a receipt has the time at which its action ended, and no other record has this time to the millisecond",
);

/// Defines a lie that is possible with every mediator and always detected.
const fn lie(name: &'static str, tell: fn(&mut Testimony)) -> Lie {
    of(name, tell, [Named, Named, Named])
}

/// Defines a lie about intents and outcomes, which only some mediators sign.
const fn of_outcomes(name: &'static str, tell: fn(&mut Testimony)) -> Lie {
    of(name, tell, [Named, Named, NO_OUTCOMES])
}

/// Defines a lie about version 2 receipts, which only some mediators sign.
const fn of_twins(name: &'static str, tell: fn(&mut Testimony)) -> Lie {
    of(name, tell, [Senseless, Named, Senseless])
}

const fn of(name: &'static str, tell: fn(&mut Testimony), expected: [Expected; 3]) -> Lie {
    let [builtin, with_sessions, without_sessions] = expected;
    Lie {
        name,
        builtin,
        with_sessions,
        without_sessions,
        tell,
    }
}

/// All lies. The first entry is the truth: the evidence is signed and chained again as for a lie, but not changed.
pub static LIES: &[Lie] = &[
    of(TRUTH, tales::truth, [Senseless; 3]),
    lie("allowed_as_blocked", tales::allowed_as_blocked),
    lie("request_as_blocked", tales::request_as_blocked),
    lie("tunnel_as_blocked", tales::tunnel_as_blocked),
    lie("verdicts_flipped", tales::verdicts_flipped),
    of(
        "blocked_request_as_allowed",
        tales::blocked_request_as_allowed,
        [Named, Named, REFUSED_LIKE_AN_ORIGIN],
    ),
    lie(
        "blocked_tunnel_as_allowed",
        tales::blocked_tunnel_as_allowed,
    ),
    of(
        "refusals_dropped",
        tales::refusals_dropped,
        [Named, Named, REFUSED_LIKE_AN_ORIGIN],
    ),
    of(
        "refused_tunnels_dropped",
        tales::refused_tunnels_dropped,
        [Named, Named, REFUSED_LIKE_AN_ORIGIN],
    ),
    lie("tunnels_as_one_intercept", tales::tunnels_as_one_intercept),
    lie("intercepts_invented", tales::intercepts_invented),
    lie("frames_invented", tales::frames_invented),
    lie(
        "host_invented_with_a_used_id",
        tales::host_invented_with_a_used_id,
    ),
    lie("host_invented", tales::host_invented),
    lie("action_invented", tales::action_invented),
    lie(
        "one_id_for_two_transports",
        tales::one_id_for_two_transports,
    ),
    lie("targets_redacted", tales::targets_redacted),
    lie("another_port", tales::another_port),
    of(
        "another_port_of_a_tunnel",
        tales::another_port_of_a_tunnel,
        [Named, Named, NO_PORT],
    ),
    lie("another_path", tales::another_path),
    lie("another_method", tales::another_method),
    lie("another_scheme", tales::another_scheme),
    lie("another_host", tales::another_host),
    lie("hosts_swapped", tales::hosts_swapped),
    of_outcomes("statuses_changed", tales::statuses_changed),
    of_outcomes("bytes_forgotten", tales::bytes_forgotten),
    of_outcomes("bytes_inflated", tales::bytes_inflated),
    of(
        "bytes_of_tunnels_a_little_off",
        sizes::bytes_of_tunnels_a_little_off,
        [WITHIN_BOUNDS, WITHIN_BOUNDS, NO_OUTCOMES],
    ),
    of_outcomes(
        "bytes_of_tunnels_inflated",
        sizes::bytes_of_tunnels_inflated,
    ),
    of(
        "bytes_of_tunnels_averaged",
        sizes::bytes_of_tunnels_averaged,
        [Named, WITHIN_BOUNDS, NO_OUTCOMES],
    ),
    of_outcomes(
        "request_as_cut_with_more_bytes",
        sizes::request_as_cut_with_more_bytes,
    ),
    of_outcomes("request_as_not_dialled", tales::request_as_not_dialled),
    of_outcomes("tunnel_as_not_dialled", tales::tunnel_as_not_dialled),
    of_outcomes("answers_denied", endings::answers_denied),
    of_outcomes("outcomes_denied", endings::outcomes_denied),
    of_outcomes("complete_as_cut", endings::complete_as_cut),
    of_outcomes(
        "complete_as_cut_after_another_answer",
        endings::complete_as_cut_after_another_answer,
    ),
    lie("allowed_as_closed", combined::allowed_as_closed),
    lie("request_as_closed", combined::request_as_closed),
    lie("tunnel_as_closed", combined::tunnel_as_closed),
    of(
        "websocket_as_closed",
        combined::websocket_as_closed,
        [Named, Named, MESSAGES],
    ),
    lie("request_as_a_message", combined::request_as_a_message),
    of(
        "websocket_as_a_message",
        combined::websocket_as_a_message,
        [Named, Named, WEBSOCKETS_THAT_FAILED],
    ),
    of_outcomes("outcome_as_closed", combined::outcome_as_closed),
    lie("intent_as_closed", combined::intent_as_closed),
    lie("closes_appended", combined::closes_appended),
    lie(
        "close_of_a_websocket_appended",
        combined::close_of_a_websocket_appended,
    ),
    of(
        "websocket_as_ended_by_policy",
        combined::websocket_as_ended_by_policy,
        [Named, MESSAGES, NO_OUTCOMES],
    ),
    lie(
        "websocket_at_another_path",
        combined::websocket_at_another_path,
    ),
    of_outcomes("numbers_unknown", combined::numbers_unknown),
    of_outcomes("bytes_unknown", combined::bytes_unknown),
    of_outcomes(
        "numbers_of_tunnels_unknown",
        combined::numbers_of_tunnels_unknown,
    ),
    of(
        "complete_as_cut_after_the_answer",
        combined::complete_as_cut_after_the_answer,
        [CUT_WITHIN_BOUNDS, CUT_WITHIN_BOUNDS, NO_OUTCOMES],
    ),
    of_outcomes("phases_dropped", combined::phases_dropped),
    of(
        "denials_of_another_layer",
        combined::denials_of_another_layer,
        [Named, Named, LAYERS],
    ),
    lie("writes_as_reads", endings::writes_as_reads),
    of(
        "users_invented",
        endings::users_invented,
        [Named, USERS_OF_THE_COMMAND, USERS_OF_THE_COMMAND],
    ),
    lie("request_dropped", tales::request_dropped),
    of_outcomes("outcomes_dropped", tales::outcomes_dropped),
    lie("allowed_forgotten", tales::allowed_forgotten),
    lie("later_by_days", tales::later_by_days),
    lie("ends_later_by_days", endings::ends_later_by_days),
    lie("before_the_run", tales::before_the_run),
    // An honest mediator signs the same receipts if the clock is set back.
    of("clock_set_back", tales::clock_set_back, [Senseless; 3]),
    of("clock_set_ahead", tales::clock_set_ahead, [Senseless; 3]),
    of("at_one_instant", tales::at_one_instant, [WITHIN_THE_RUN; 3]),
    of(
        "times_reversed",
        tales::times_reversed,
        [Named, WITHIN_THE_RUN, WITHIN_THE_RUN],
    ),
    of_twins("twin_of_another_verdict", tales::twin_of_another_verdict),
    of_twins("twin_of_another_target", tales::twin_of_another_target),
    of_twins("twins_dropped", tales::twins_dropped),
    of(
        "warnings_only",
        parts::warnings_only,
        [Named, Named, WITHOUT_PHASES],
    ),
    of(
        "intents_as_warnings",
        parts::intents_as_warnings,
        [Named, Named, WITHOUT_PHASES],
    ),
    of(
        "denials_as_questions",
        parts::denials_as_questions,
        [Named, Named, WITHOUT_PHASES],
    ),
    of(
        "ports_left_out",
        parts::ports_left_out,
        [Named, Named, NO_PORT],
    ),
    lie("schemes_left_out", parts::schemes_left_out),
    of_outcomes("websockets_refused", parts::websockets_refused),
    of(
        "websockets_as_nothing",
        parts::websockets_as_nothing,
        [Named, CONTENT_OF_MESSAGES, NO_OUTCOMES],
    ),
    of_outcomes(
        "tunnels_cut_after_a_denial",
        parts::tunnels_cut_after_a_denial,
    ),
    of(
        "fetch_as_cut",
        parts::fetch_as_cut,
        [Senseless, Named, NO_OUTCOMES],
    ),
    of(
        "fetch_of_another_status",
        parts::fetch_of_another_status,
        [Senseless, INSIDE_A_DOCUMENT, NO_OUTCOMES],
    ),
    of_outcomes("failed_as_denied", parts::failed_as_denied),
    of_outcomes(
        "failures_of_another_status",
        parts::failures_of_another_status,
    ),
    of_outcomes("failures_with_bytes", parts::failures_with_bytes),
    of_outcomes("failures_as_cut", parts::failures_as_cut),
    of_outcomes(
        "failed_tunnel_as_complete",
        parts::failed_tunnel_as_complete,
    ),
    of(
        "cut_as_not_begun",
        parts::cut_as_not_begun,
        [Named, Senseless, NO_OUTCOMES],
    ),
    of(
        "cut_as_not_answered",
        parts::cut_as_not_answered,
        [Named, Senseless, NO_OUTCOMES],
    ),
    of(
        "not_dialled_as_not_answered",
        parts::not_dialled_as_not_answered,
        [Named, Senseless, NO_OUTCOMES],
    ),
    of(
        "not_answered_as_not_dialled",
        parts::not_answered_as_not_dialled,
        [Named, SHARED_CONNECTIONS, NO_OUTCOMES],
    ),
    of_outcomes("failures_dropped", parts::failures_dropped),
    of_outcomes("two_outcomes_in_one", parts::two_outcomes_in_one),
    lie("entries_of_another_year", parts::entries_of_another_year),
    lie("another_principal", parts::another_principal),
    lie("another_reversibility", parts::another_reversibility),
    of(
        "messages_invented",
        parts::messages_invented,
        [Named, Named, MESSAGES],
    ),
    lie("message_elsewhere", parts::message_elsewhere),
    of_twins("twins_of_another_year", parts::twins_of_another_year),
    of_twins("twins_of_another_policy", parts::twins_of_another_policy),
    of_twins("twins_of_another_action", parts::twins_of_another_action),
    of(
        "decision_added",
        entries::decision_added,
        [Named, ONLY_A_PIPELOCK, ONLY_A_PIPELOCK],
    ),
    of(
        "severities_added",
        entries::severities_added,
        [Named, ONLY_A_PIPELOCK, ONLY_A_PIPELOCK],
    ),
    of(
        "heartbeat_invented",
        entries::heartbeat_invented,
        [Named, Senseless, Senseless],
    ),
    of("another_reason", tales::another_reason, [OWN_WORDS; 3]),
    of("another_number", tales::another_number, [OWN_WORDS; 3]),
];
