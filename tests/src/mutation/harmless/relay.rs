//! Statements about requests that only the boundary can change.
use super::entry::{
    BUILTIN, FLOWS, Harmless, RELAY_ALONE, SECONDS, WITHIN_SECONDS, boundary, boundary_with,
};

const IN_FLIGHT: &str = "Up to 16 KiB can be in flight when a side closes, so receipts and rows are compared with this tolerance. The kernel's counts of the command's connection are bounds.";
const DENIAL: &str = "A receipt of a denial states no bytes, and the command may close its connection before it has read the answer. The kernel counts heads as well.";
const HEAD: &str = "Only the relay measures the head that it sends. A receipt states the bytes of bodies, and the command sends another head than the relay.";
const HELLO: &str = "Only the relay reads the handshake in a tunnel, and the mediator may have signed a tunnel as complete that the relay cut.";

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
];
