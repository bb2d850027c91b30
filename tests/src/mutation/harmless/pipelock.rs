//! What a Pipelock alone, or the boundary about it, may state otherwise.
use super::{
    BOUNDARY, ENTRY, ENVELOPE, FLOWS, Harmless, MEASURED_ONCE, MEDIATOR_SOCKETS, OLD_PIPELOCK,
    OTHER_SIGNATURE, OWN_WORD, PIPELOCK, PIPELOCKS, RECORD, RELAY_ALONE, WRITTEN_ANEW, boundary,
    mediator,
};

const CAPSULE: &str = "posture-capsule.json";
const UNBOUND: &str =
    "The receipts of an older Pipelock bind no capsule, so this is the supervisor's word alone.";
const TWIN: &str = "evidence.jsonl#twin";
const TWIN_ENTRY: &str = "evidence.jsonl#twin_entry";

pub(super) static TABLE: &[Harmless] = &[
    mediator(PIPELOCKS, RECORD, "/*/principal", "*", OWN_WORD),
    mediator(PIPELOCKS, RECORD, "/*/layer", "*", OWN_WORD),
    mediator(PIPELOCKS, RECORD, "/*/method", "*", OWN_WORD),
    mediator(PIPELOCKS, RECORD, "/*/reversibility", "*", OWN_WORD),
    mediator(PIPELOCKS, RECORD, "/*/side_effect_class", "*", OWN_WORD),
    mediator(PIPELOCKS, RECORD, "/*/authority_kind", "*", OWN_WORD),
    mediator(PIPELOCKS, RECORD, "/*/session_taint_level", "*", OWN_WORD),
    mediator(PIPELOCKS, RECORD, "/*/taint_decision", "*", OWN_WORD),
    mediator(PIPELOCKS, RECORD, "/*/taint_decision_reason", "*", OWN_WORD),
    mediator(PIPELOCKS, RECORD, "/*/action_type", "word=*", OWN_WORD),
    mediator(PIPELOCK, RECORD, "/*/decision_phase", "*", OWN_WORD),
    mediator(
        PIPELOCK,
        RECORD,
        "/*/policy_hash",
        "*",
        "Pipelock hashes a form of its policy that cannot be computed from the file; a second hash is a warning.",
    ),
    mediator(
        OLD_PIPELOCK,
        RECORD,
        "/*/policy_hash",
        "empty",
        "An empty hash names no policy that could be compared.",
    ),
    mediator(
        OLD_PIPELOCK,
        RECORD,
        "/*/action_id",
        "*",
        "An older Pipelock signs one receipt for an action, so no other one has its id.",
    ),
    mediator(
        OLD_PIPELOCK,
        RECORD,
        "/*/chain_prev_hash",
        "swapped",
        WRITTEN_ANEW,
    ),
    mediator(OLD_PIPELOCK, RECORD, "/*.block.*/pattern", "*", OWN_WORD),
    mediator(
        OLD_PIPELOCK,
        RECORD,
        "/*/target",
        "*",
        "Letters of either case, a query, and white space name the same place; an older Pipelock redacts.",
    ),
    mediator(
        OLD_PIPELOCK,
        RECORD,
        "/websocket.*/verdict",
        "word=*",
        OWN_WORD,
    ),
    mediator(
        PIPELOCK,
        "evidence.jsonl",
        "/*.allow.intent.*",
        "twice",
        "A second announcement of an action that ends once says nothing else.",
    ),
    mediator(
        PIPELOCK,
        "evidence.jsonl",
        "/websocket.allow.outcome.*",
        "removed",
        "A Pipelock that is stopped need not sign how a WebSocket ended.",
    ),
    mediator(
        OLD_PIPELOCK,
        "evidence.jsonl",
        "/websocket.allow.session_close.*",
        "*",
        "An older Pipelock signs the end of a WebSocket without its beginning, if it signs it.",
    ),
    mediator(
        PIPELOCKS,
        "evidence.jsonl",
        "/forward.block.*",
        "removed",
        "A Pipelock's answer to plain HTTP bears no mark, so the relay cannot know that it was a denial.",
    ),
    mediator(
        OLD_PIPELOCK,
        "evidence.jsonl",
        "/connect.block.*",
        "removed",
        "An older Pipelock need not sign each denial.",
    ),
    mediator(
        OLD_PIPELOCK,
        ENTRY,
        "/*/v",
        "plus_one",
        "Version 2 of the envelope has the same members.",
    ),
    mediator(PIPELOCK, TWIN, "/*/actor", "*", OTHER_SIGNATURE),
    mediator(PIPELOCK, TWIN, "/*/event_id", "*", OTHER_SIGNATURE),
    mediator(
        PIPELOCK,
        TWIN,
        "/*/payload/action_type",
        "*",
        OTHER_SIGNATURE,
    ),
    mediator(
        PIPELOCK,
        TWIN,
        "/*/payload/policy_sources*",
        "*",
        OTHER_SIGNATURE,
    ),
    mediator(
        PIPELOCK,
        TWIN,
        "/*/payload/winning_source",
        "*",
        OTHER_SIGNATURE,
    ),
    mediator(PIPELOCK, TWIN, "/*/principal", "*", OTHER_SIGNATURE),
    mediator(PIPELOCK, TWIN, "/*/timestamp", "*", OTHER_SIGNATURE),
    mediator(
        PIPELOCK,
        TWIN,
        "/*/policy_hash",
        "one_digit",
        OTHER_SIGNATURE,
    ),
    mediator(
        PIPELOCK,
        TWIN,
        "/*/chain_prev_hash",
        "removed",
        WRITTEN_ANEW,
    ),
    mediator(PIPELOCK, TWIN, "/*/chain_seq", "removed", WRITTEN_ANEW),
    mediator(PIPELOCK, TWIN_ENTRY, "/*/ts", "*", ENVELOPE),
    mediator(PIPELOCK, TWIN_ENTRY, "/*/event_kind", "*", ENVELOPE),
    mediator(PIPELOCK, TWIN_ENTRY, "/*/transport", "removed", ENVELOPE),
    mediator(PIPELOCK, TWIN_ENTRY, "/*/summary", "removed", ENVELOPE),
    mediator(PIPELOCK, TWIN_ENTRY, "/*/seq", "removed", WRITTEN_ANEW),
    mediator(
        PIPELOCK,
        TWIN_ENTRY,
        "/*/prev_hash",
        "removed",
        WRITTEN_ANEW,
    ),
    mediator(
        PIPELOCK,
        TWIN_ENTRY,
        "/*/v",
        "minus_one",
        "Version 1 of the envelope has the same members.",
    ),
    mediator(
        PIPELOCK,
        TWIN_ENTRY,
        "/*",
        "unknown_member",
        "A member that no format has is in no hash of an entry, and nobody reads it.",
    ),
    Harmless {
        with: PIPELOCKS,
        ..boundary(BOUNDARY, "/mediator/pipelock/allowed*", "*", MEASURED_ONCE)
    },
    Harmless {
        with: PIPELOCKS,
        ..boundary(
            BOUNDARY,
            "/mediator/pipelock/binary_sha256",
            "*",
            MEASURED_ONCE,
        )
    },
    Harmless {
        with: PIPELOCKS,
        ..boundary(BOUNDARY, "/mediator/pipelock/given", "*", MEASURED_ONCE)
    },
    Harmless {
        with: PIPELOCKS,
        ..boundary(BOUNDARY, "/mediator/pipelock/killed", "*", MEASURED_ONCE)
    },
    Harmless {
        with: PIPELOCKS,
        ..boundary(BOUNDARY, "/mediator/pipelock/left_out*", "*", MEASURED_ONCE)
    },
    Harmless {
        with: PIPELOCKS,
        ..boundary(BOUNDARY, "/mediator/pipelock/notes*", "*", MEASURED_ONCE)
    },
    Harmless {
        with: PIPELOCKS,
        ..boundary(BOUNDARY, "/mediator/pipelock/posture", "*", MEASURED_ONCE)
    },
    Harmless {
        with: PIPELOCKS,
        ..boundary(BOUNDARY, "/mediator/pipelock/raised*", "*", MEASURED_ONCE)
    },
    Harmless {
        with: PIPELOCKS,
        ..boundary(BOUNDARY, "/mediator/pipelock/redact", "*", MEASURED_ONCE)
    },
    Harmless {
        with: PIPELOCKS,
        ..boundary(BOUNDARY, "/mediator/pipelock/version", "*", MEASURED_ONCE)
    },
    Harmless {
        with: PIPELOCKS,
        ..boundary(BOUNDARY, "/notices*", "*", MEASURED_ONCE)
    },
    Harmless {
        with: PIPELOCKS,
        ..boundary(
            BOUNDARY,
            "/egress/binary_sha256",
            "word=*",
            "Only the supervisor read its own binary; a verifier who wants this version compares the digest.",
        )
    },
    Harmless {
        with: PIPELOCKS,
        ..boundary(
            FLOWS,
            "/relay.answered.*/status",
            "*",
            "The receipt of a denial states no status.",
        )
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(FLOWS, "/kernel_mediator.tcp", "removed", MEDIATOR_SOCKETS)
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(FLOWS, "/kernel_mediator.tcp", "twice", MEDIATOR_SOCKETS)
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(
            FLOWS,
            "/kernel_mediator.tcp/established",
            "flipped",
            MEDIATOR_SOCKETS,
        )
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(FLOWS, "/kernel_mediator.tcp/port", "*", MEDIATOR_SOCKETS)
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(FLOWS, "/relay.answered.*/reason", "*", RELAY_ALONE)
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(
            FLOWS,
            "/relay.forwarded.forward.*/status",
            "*",
            "The receipt of an older Pipelock states no status.",
        )
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(CAPSULE, "/evidence/contain_launch/argc", "*", UNBOUND)
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(
            CAPSULE,
            "/evidence/contain_launch/argv_sha256",
            "*",
            UNBOUND,
        )
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(CAPSULE, "/evidence/contain_launch/cwd", "*", UNBOUND)
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(CAPSULE, "/evidence/contain_launch/env_vars*", "*", UNBOUND)
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(CAPSULE, "/evidence/contain_launch/launcher", "*", UNBOUND)
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(CAPSULE, "/evidence/contain_launch/target_gid", "*", UNBOUND)
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(CAPSULE, "/evidence/contain_launch/tool", "*", UNBOUND)
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(CAPSULE, "/evidence/discover/*", "*", UNBOUND)
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(CAPSULE, "/evidence/flight_recorder/*", "*", UNBOUND)
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(CAPSULE, "/evidence/simulate/*", "*", UNBOUND)
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(CAPSULE, "/evidence/verify_install/*", "*", UNBOUND)
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(CAPSULE, "/expires_at", "*", UNBOUND)
    },
    Harmless {
        with: OLD_PIPELOCK,
        ..boundary(CAPSULE, "/generated_at", "*", UNBOUND)
    },
];
