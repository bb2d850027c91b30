//! The forms, one table for each document.
use super::kind::Form::{
    self, Either, Flag, Hex, List, Map, Mode, Name, Nullable, Number, Object, Text, True, Word,
};

pub(super) const SHA256: Form = Hex(64);
const WORKSPACE: Form = Word(&["apply", "copy", "direct", "discard", "read-only"]);

const REACHED: Form = Nullable(&Object(&[
    (
        "held_by",
        Word(&[
            "cgroup v1",
            "cgroup v2",
            "RLIMIT_NPROC of the agent's user",
            "RLIMIT_DATA of each process",
        ]),
    ),
    ("times", Nullable(&Number)),
]));
const LIMIT: Form = Object(&[("most", Number), ("reached", REACHED)]);
const THROUGH: Form = Object(&[
    ("bytes_down", Number),
    ("bytes_up", Number),
    ("head_bytes", Number),
    ("requests", Number),
    ("target_bytes", Number),
]);
const DENIED: Form = Object(&[
    ("destination", Text),
    ("port", Number),
    ("process", Text),
    ("protocol", Text),
    ("reason", Text),
]);
const PIPELOCK: Form = Object(&[
    ("given", Name),
    ("binary_sha256", Nullable(&SHA256)),
    ("version", Nullable(&Name)),
    ("roots_sha256", Nullable(&SHA256)),
    ("posture", Nullable(&Word(&["bound", "not_known"]))),
    ("raised", List(&Text)),
    ("redact", Flag),
    ("left_out", List(&Text)),
    ("notices", List(&Object(&[("key", Name), ("effect", Name)]))),
    ("allowed", List(&Number)),
    ("killed", Flag),
    ("notes", List(&Text)),
]);

/// `boundary.json`.
pub(super) static BOUNDARY: Form = Object(&[
    ("schema_version", Word(&["egress.boundary.v0"])),
    ("run_id", Hex(16)),
    ("mode", Word(&["enforce"])),
    (
        "egress",
        Object(&[("version", Name), ("binary_sha256", SHA256)]),
    ),
    (
        "kernel",
        Object(&[("release", Name), ("version", Name), ("machine", Name)]),
    ),
    (
        "programs",
        Object(&[
            ("object_sha256", SHA256),
            (
                "attached",
                List(&Object(&[
                    ("name", Name),
                    ("id", Number),
                    ("tag", Hex(16)),
                    ("attach_type", Number),
                ])),
            ),
            (
                "unavailable",
                List(&Object(&[("name", Name), ("why", Name)])),
            ),
            (
                "links",
                List(&Object(&[
                    ("id", Number),
                    ("program_id", Number),
                    ("attach_type", Number),
                    ("cgroup_id", Number),
                ])),
            ),
        ]),
    ),
    (
        "seccomp",
        Object(&[("agent_sha256", SHA256), ("relay_sha256", SHA256)]),
    ),
    (
        "agent",
        Object(&[
            (
                "enforced",
                Object(&[
                    ("uid", Number),
                    ("capabilities", Number),
                    ("no_new_privs", Flag),
                    ("seccomp_mode", Number),
                    ("seccomp_filters", Number),
                ]),
            ),
            ("user", Name),
            ("uid", Number),
        ]),
    ),
    (
        "users",
        Object(&[
            ("pipelock-agent", Number),
            ("pipelock-host", Number),
            ("pipelock-relay", Number),
        ]),
    ),
    ("namespaces", List(&Name)),
    ("ipv6", Flag),
    ("dns", Word(&["synthetic", "deny"])),
    ("allowed_ports", List(&Number)),
    (
        "workspace",
        Object(&[
            ("mode", WORKSPACE),
            ("path", Name),
            ("protected", List(&Name)),
            (
                "changes",
                Nullable(&Object(&[
                    ("applied", Number),
                    ("refused", Number),
                    ("conflicts", Number),
                    ("discarded", Number),
                ])),
            ),
            (
                "recovered",
                List(&Object(&[
                    ("workspace", Name),
                    ("completed", Flag),
                    ("applied", Number),
                    ("refused", Number),
                    ("kept", Nullable(&Name)),
                ])),
            ),
        ]),
    ),
    (
        "allowed_unix",
        List(&Object(&[("path", Name), ("as_owner", Flag)])),
    ),
    (
        "view",
        Object(&[
            ("left_out", List(&Object(&[("path", Name), ("why", Name)]))),
            ("masked", List(&Name)),
        ]),
    ),
    (
        "environment",
        Object(&[
            ("passed", List(&Name)),
            ("dropped", List(&Name)),
            ("set", List(&Name)),
        ]),
    ),
    (
        "tls_interception",
        Nullable(&Object(&[
            ("certificate_sha256", SHA256),
            ("files", List(&Name)),
        ])),
    ),
    (
        "limits",
        Object(&[
            ("processes", LIMIT),
            ("memory", LIMIT),
            (
                "open_files",
                Object(&[
                    ("most", Number),
                    ("held_by", Word(&["RLIMIT_NOFILE of each process"])),
                ]),
            ),
            (
                "scratch",
                Object(&[("most", Number), ("full_at_the_end", List(&Name))]),
            ),
            ("evidence", Object(&[("most", Number)])),
            (
                "shares",
                Object(&[
                    ("files", Number),
                    ("sockets", Number),
                    ("tcp_bytes", Number),
                    ("processes", Number),
                ]),
            ),
            (
                "seconds",
                Object(&[("most", Nullable(&Number)), ("reached", Flag)]),
            ),
        ]),
    ),
    (
        "credentials",
        Object(&[
            (
                "hidden",
                List(&Object(&[("path", Name), ("keys", List(&Text))])),
            ),
            ("searched_whole_workspace", Flag),
        ]),
    ),
    (
        "command_files",
        List(&Object(&[
            ("name", Name),
            ("bytes", Number),
            ("sha256?", SHA256),
            ("keys", List(&Text)),
        ])),
    ),
    (
        "output",
        Object(&[
            ("guarded", Flag),
            ("stop_commands", Flag),
            ("bytes", Number),
            ("defused", Number),
        ]),
    ),
    ("inherited_descriptors", List(&Name)),
    (
        "policy",
        Object(&[
            ("config", Nullable(&Name)),
            ("sha256", SHA256),
            ("overridden", List(&Name)),
        ]),
    ),
    (
        "mediator",
        Either(&[
            Object(&[("kind", Word(&["builtin"])), ("posture", Word(&["bound"]))]),
            Object(&[
                ("kind", Word(&["pipelock"])),
                ("plain_http", Word(&["scan", "tunnel"])),
                ("pipelock", PIPELOCK),
            ]),
        ]),
    ),
    (
        "probes",
        Object(&[
            (
                "results",
                List(&Object(&[
                    ("name", Name),
                    (
                        "outcome",
                        Word(&["denied", "reachable", "not_applicable", "control_failed"]),
                    ),
                    ("detail", Name),
                    ("control", Object(&[("succeeded", Flag), ("detail", Name)])),
                ])),
            ),
            (
                "counts",
                Object(&[
                    ("denied", Number),
                    ("reachable", Number),
                    ("not_applicable", Number),
                    ("control_failed", Number),
                ]),
            ),
            ("accepted_risks", List(&Name)),
            ("seen_by_hooks", Number),
        ]),
    ),
    (
        "counters",
        Object(&[
            ("ring_full", Number),
            ("internal", Number),
            ("skb_dropped", Number),
            ("relay_denied", Number),
            ("caller_refused", Number),
            ("mediator_denied", Number),
            ("slots_written", Number),
            ("closes_expected", Number),
            ("closes_seen", Number),
        ]),
    ),
    (
        "flows",
        Object(&[
            ("sha256", SHA256),
            ("head", SHA256),
            ("rows", Number),
            ("by_verdict", Map(&Number)),
            ("by_relay_verdict", Map(&Number)),
            ("names", Number),
        ]),
    ),
    (
        "residual_channels",
        Object(&[
            ("allowed_hosts", Map(&THROUGH)),
            ("other_hosts", THROUGH),
            ("blocked", THROUGH),
            ("names", Number),
            ("name_bytes", Number),
        ]),
    ),
    (
        "denied",
        List(&Object(&[("count", Number), ("attempt", DENIED)])),
    ),
    ("denied_left_out", Number),
    (
        "answered",
        List(&Object(&[("count", Number), ("attempt", DENIED)])),
    ),
    ("answered_left_out", Number),
    (
        "allowed",
        List(&Object(&[
            ("host", Name),
            ("port", Number),
            ("count", Number),
        ])),
    ),
    ("allowed_left_out", Number),
    ("notices", List(&Name)),
    ("attestation", Object(&[("key", SHA256), ("pinned", Flag)])),
    ("packet_directory", Name),
    ("incomplete", List(&Name)),
    (
        "timeline",
        List(&Object(&[("step", Word(&STEPS)), ("at_us", Number)])),
    ),
]);

/// The steps of a run, in their order.
pub(crate) const STEPS: [&str; 15] = [
    "cgroups made",
    "workspace mapped",
    "init spawned",
    "gates attached",
    "gates attached again",
    "boundary closed",
    "probes done",
    "mediator ready",
    "relay ready",
    "command executed",
    "command ended",
    "agent gone",
    "workspace done",
    "relay ended",
    "mediator ended",
];

/// The steps that not every run takes.
pub(crate) const STEPS_OF_SOME_RUNS: [&str; 4] = [
    "workspace mapped",
    "gates attached again",
    "command executed",
    "workspace done",
];

/// `changes.json`.
pub(super) static CHANGES: Form = Object(&[
    ("schema_version", Word(&["egress.changes.v0"])),
    ("mode", WORKSPACE),
    (
        "changes",
        List(&Object(&[
            ("path", Name),
            ("change", Word(&["created", "deleted", "modified", "moved"])),
            (
                "kind",
                Word(&["device", "directory", "fifo", "file", "socket", "symlink"]),
            ),
            ("from?", Name),
            ("mode?", Mode),
            ("size?", Number),
            ("sha256?", SHA256),
            ("target?", Name),
            ("setid_dropped?", True),
            (
                "outcome",
                Word(&["applied", "refused", "conflict", "discarded"]),
            ),
            (
                "reason?",
                Either(&[
                    Word(&[
                        "changed_meanwhile",
                        "device",
                        "fifo",
                        "git_directory",
                        "git_index",
                        "github",
                        "held_back",
                        "looks_like_git_directory",
                        "new_git_directory",
                        "not_permitted",
                        "other_file_system",
                        "points_outside",
                        "protected",
                        "socket",
                        "too_deep",
                        "whole_run",
                        "workspace_itself",
                    ]),
                    Object(&[("io", Name)]),
                ]),
            ),
        ])),
    ),
]);
