//! Statements about requests that only the boundary can change.
use super::entry::{
    BUILTIN, FLOWS, Harmless, OLD_PIPELOCK, PIPELOCK, PIPELOCKS, RELAY_ALONE, SECONDS,
    WITHIN_SECONDS, boundary, boundary_with,
};

const IN_FLIGHT: &str = "Up to 16 KiB can be in flight when a side closes, so receipts and rows are compared with this tolerance. The kernel's counts of the command's connection are bounds.";
const DENIAL: &str = "A receipt of a denial states no bytes, and the command may close its connection before it has read the answer. The kernel counts heads as well.";
const HEAD: &str = "Only the relay measures the head that it sends. A receipt states the bytes of bodies, and the command sends another head than the relay.";
const HELLO: &str = "Only the relay reads the handshake in a tunnel, and the mediator may have signed a tunnel as complete that the relay cut.";
const WORDS: &str = "Only the relay reads the header fields of the answer, which may name a layer, a reason, or neither.";
const UNSIGNED: &str =
    "An older Pipelock need not sign each denial, so only the relay recorded the answer.";

pub(super) static TABLE: &[Harmless] = &[
    boundary(FLOWS, "/relay.*", "at_the_front", WITHIN_SECONDS),
    boundary(FLOWS, "/relay.*", "swapped", WITHIN_SECONDS),
    boundary(
        FLOWS,
        "/relay.*/duration_us",
        "zero|plus_one|minus_one|swapped|neighbour",
        WITHIN_SECONDS,
    ),
    boundary(FLOWS, "/relay.*/ts", SECONDS, WITHIN_SECONDS),
    boundary(
        FLOWS,
        "/relay.blocked.*/status",
        "*",
        "A receipt of a denial states no status.",
    ),
    boundary(
        FLOWS,
        "/relay.forwarded.connect.*/protocol",
        "*",
        "Only the relay recognizes the protocol in a tunnel.",
    ),
    boundary(
        FLOWS,
        "/relay.forwarded.websocket.*/target",
        "other_method",
        "A receipt of a WebSocket states no method.",
    ),
    boundary(FLOWS, "/relay.refused.*/host", "*", RELAY_ALONE),
    boundary(FLOWS, "/relay.refused.*/protocol", "*", RELAY_ALONE),
    boundary(FLOWS, "/relay.refused.*/", "both=*", RELAY_ALONE),
    boundary(
        FLOWS,
        "/relay.failed.client_closed.*/protocol",
        "*",
        RELAY_ALONE,
    ),
    boundary(
        FLOWS,
        "/relay.failed.client_closed.*/",
        "both=*",
        RELAY_ALONE,
    ),
    boundary(FLOWS, "/relay.failed.client_closed.*", "twice", RELAY_ALONE),
    boundary(
        FLOWS,
        "/relay.failed.client_closed.*/host",
        "*",
        RELAY_ALONE,
    ),
    boundary(
        FLOWS,
        "/relay.forwarded.connect.*/",
        "both=unfinished,client_hello|both=unfinished,name_mismatch",
        HELLO,
    ),
    boundary(
        FLOWS,
        "/relay.forwarded.connect.*/bytes_*",
        "plus_one|minus_one|neighbour",
        IN_FLIGHT,
    ),
    boundary(
        FLOWS,
        "/relay.forwarded.connect.*/",
        "moved=bytes_up,bytes_down",
        IN_FLIGHT,
    ),
    boundary(
        FLOWS,
        "/relay.forwarded.websocket.*/bytes_*",
        "plus_one|minus_one|neighbour|zero",
        IN_FLIGHT,
    ),
    boundary(
        FLOWS,
        "/relay.forwarded.websocket.*/",
        "moved=bytes_up,bytes_down",
        IN_FLIGHT,
    ),
    boundary_with(
        BUILTIN,
        FLOWS,
        "/relay.blocked.*/bytes_*",
        "plus_one|minus_one|neighbour|zero",
        DENIAL,
    ),
    boundary(
        FLOWS,
        "/relay.*/head_bytes",
        "plus_one|minus_one|neighbour",
        HEAD,
    ),
    boundary(FLOWS, "/relay.*/", "moved=head_bytes,duration_us", HEAD),
    boundary_with(
        PIPELOCKS,
        FLOWS,
        "/relay.blocked.*.connect.*/",
        "both=blocked,*",
        WORDS,
    ),
    boundary_with(
        PIPELOCKS,
        FLOWS,
        "/relay.blocked.*.connect.*/reason",
        "neighbour|unknown_word|word=*",
        WORDS,
    ),
    boundary_with(
        PIPELOCK,
        FLOWS,
        "/relay.answered.*/claimed",
        "removed|unknown_word|upper_case",
        WORDS,
    ),
    boundary_with(
        PIPELOCKS,
        FLOWS,
        "/relay.answered.*/bytes_*",
        "plus_one|minus_one|neighbour|zero",
        "Pipelock may have written the answer itself, and then signs no bytes.",
    ),
    boundary_with(
        PIPELOCKS,
        FLOWS,
        "/relay.answered.*",
        "twice",
        "Pipelock signs nothing if a session is limited, so the second row needs no receipt.",
    ),
    boundary_with(
        PIPELOCKS,
        FLOWS,
        "/relay.forwarded.forward.*/bytes_up",
        "plus_one",
        "Pipelock does not count uploads, and the kernel's count of the command's connection is a bound.",
    ),
    boundary_with(
        OLD_PIPELOCK,
        FLOWS,
        "/relay.answered.*/",
        "added=claimed",
        WORDS,
    ),
    boundary_with(
        OLD_PIPELOCK,
        FLOWS,
        "/relay.forwarded.connect.connect/",
        "both=unfinished,stopped",
        "The receipt of an older Pipelock states no reason, so the tunnel may have been open when the command ended.",
    ),
    boundary_with(
        OLD_PIPELOCK,
        FLOWS,
        "/relay.blocked.*.connect.*/reason",
        "upper_case",
        WORDS,
    ),
    boundary_with(
        OLD_PIPELOCK,
        FLOWS,
        "/relay.blocked.*.connect.*",
        "twice",
        UNSIGNED,
    ),
    boundary_with(
        OLD_PIPELOCK,
        FLOWS,
        "/relay.forwarded.forward.*/bytes_down",
        "plus_one|minus_one|zero",
        "The receipt of an older Pipelock states no bytes, and the kernel's count of the command's connection is a bound.",
    ),
    boundary_with(
        OLD_PIPELOCK,
        FLOWS,
        "/relay.forwarded.websocket.*",
        "twice",
        "An older Pipelock signs no receipt for a WebSocket whose end it does not observe.",
    ),
];
