//! The changes that nobody can see, and why.
use super::attacker::Attacker;

/// Who wrote the receipts of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The built-in mediator.
    Builtin,
    /// A Pipelock whose receipts have sessions.
    Pipelock,
    /// An older one.
    OldPipelock,
}

/// An entry of the table. In `path` and `operator` a `*` stands for any text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Harmless {
    /// With which mediators.
    with: &'static [By],
    attacker: Attacker,
    file: &'static str,
    path: &'static str,
    operator: &'static str,
    /// What only one party knows, or why the change has no meaning.
    #[expect(dead_code, reason = "it is for whoever reads the table")]
    reason: &'static str,
}

impl Harmless {
    pub(super) fn is_of(&self, by: By) -> bool {
        self.with.contains(&by)
    }

    /// Whether it explains this change.
    pub(super) fn fits(
        &self,
        by: By,
        attacker: Attacker,
        file: &str,
        path: &str,
        operator: &str,
    ) -> bool {
        self.is_of(by)
            && self.attacker == attacker
            && self.file == file
            && is_like(path, self.path)
            && is_like(operator, self.operator)
    }
}

/// Whether a text fits a pattern.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        last = Some(part);
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    match last {
        None => rest.is_empty(),
        Some(last) => last.is_empty() || rest.is_empty() || text.ends_with(last),
    }
}

const ALL: &[By] = &[By::Builtin, By::Pipelock, By::OldPipelock];

/// What the boundary alone states.
const fn boundary(
    file: &'static str,
    path: &'static str,
    operator: &'static str,
    reason: &'static str,
) -> Harmless {
    Harmless {
        with: ALL,
        attacker: Attacker::Boundary,
        file,
        path,
        operator,
        reason,
    }
}

/// What the built-in mediator alone states.
const fn mediator(
    file: &'static str,
    path: &'static str,
    operator: &'static str,
    reason: &'static str,
) -> Harmless {
    Harmless {
        with: &[By::Builtin],
        attacker: Attacker::Mediator,
        file,
        path,
        operator,
        reason,
    }
}

const OWN_WORD: &str = "The mediator's own word for the action; nobody else classifies it.";
const ENVELOPE: &str =
    "Only the mediator writes the envelope of a receipt, and nothing else is derived from it.";
const WRITTEN_ANEW: &str =
    "Whoever signs again writes it anew with the chain, so the change is undone.";
const ROOT_TIMES: &str =
    "The mediator's own summary of its times; those of the receipts are compared.";
const ENTRY: &str = "evidence.jsonl#entry";
const RECORD: &str = "evidence.jsonl#record";
const ORDER: &str = "The order of these elements has no meaning.";
const WHITE_SPACE: &str = "White space around a JSON document has no meaning.";
const KERNEL_ALONE: &str =
    "Only the kernel saw this attempt, and it went to nobody who keeps a record of it.";
const PROCESS: &str =
    "Only the kernel and /proc show which process it was, and the supervisor reads both.";
const CLOSE: &str = "Only the kernel counts these bytes; the relay's own are compared as bounds.";
const MEDIATOR_SOCKETS: &str =
    "Only the kernel sees the mediator's sockets; receipts name no address, and no name server.";
const WITHIN_SECONDS: &str =
    "Two rows are written within seconds of each other, and a busy machine records late.";
const RELAY_ALONE: &str =
    "Only the relay saw it, because the mediator was never asked or signs nothing of it.";
const MEASURED_ONCE: &str =
    "Only the supervisor measured it, and nothing else in the packet depends on it.";
const CALLERS_WISH: &str = "It is what the caller chose; nobody else records the choice.";
const WORDS_OF_AN_ERROR: &str = "The words of an error, which nobody else heard.";

const BOUNDARY: &str = "boundary.json";
const PACKET: &str = "packet.json";
const CHANGES: &str = "changes.json";
const FLOWS: &str = "flows.jsonl";

pub(super) static HARMLESS: &[Harmless] = &[
    boundary(BOUNDARY, "/", "white_space", WHITE_SPACE),
    boundary(
        BOUNDARY,
        "/agent/enforced/seccomp_filters",
        "*",
        "The caller's own filters count too, and nobody knows how many there are.",
    ),
    boundary(
        BOUNDARY,
        "/counters/caller_refused",
        "*",
        "Only the kernel counts other processes of the machine that tried to reach the mediator.",
    ),
    boundary(
        BOUNDARY,
        "/counters/slots_written",
        "*",
        "Only the kernel counts the connections that it handed to the relay, the probes' among them.",
    ),
    boundary(BOUNDARY, "/counters/closes_*", "swapped", ORDER),
    boundary(
        BOUNDARY,
        "/credentials/searched_whole_workspace",
        "flipped",
        MEASURED_ONCE,
    ),
    boundary(
        BOUNDARY,
        "/egress/binary_sha256",
        "one_digit",
        "Only the supervisor read its own binary; a verifier who wants this version compares the digest.",
    ),
    boundary(
        BOUNDARY,
        "/attestation/pinned",
        "flipped",
        "Only the supervisor knows who supplied the key; a verifier goes by the keys that it pins itself.",
    ),
    boundary(BOUNDARY, "/denied/*", "swapped", ORDER),
    boundary(BOUNDARY, "/kernel/release", "*", MEASURED_ONCE),
    boundary(BOUNDARY, "/notices", "unknown_element", MEASURED_ONCE),
    boundary(BOUNDARY, "/packet_directory", "*", CALLERS_WISH),
    boundary(BOUNDARY, "/probes/results/*", "swapped", ORDER),
    boundary(BOUNDARY, "/probes/results", "reordered", ORDER),
    boundary(
        BOUNDARY,
        "/residual_channels/*target_bytes",
        "*",
        "Only the relay saw the targets before they were redacted, and the rows have them redacted.",
    ),
    boundary(BOUNDARY, "/environment/*", "*", CALLERS_WISH),
    boundary(BOUNDARY, "/inherited_descriptors*", "*", CALLERS_WISH),
    boundary(BOUNDARY, "/ipv6", "flipped", MEASURED_ONCE),
    boundary(BOUNDARY, "/kernel/version", "*", MEASURED_ONCE),
    boundary(BOUNDARY, "/limits/*/most", "*", CALLERS_WISH),
    boundary(BOUNDARY, "/limits/shares/*", "*", MEASURED_ONCE),
    boundary(
        BOUNDARY,
        "/limits/*/reached*",
        "*",
        "Only the kernel counts how often a limit was met.",
    ),
    boundary(
        BOUNDARY,
        "/limits/scratch/full_at_the_end",
        "unknown_element",
        MEASURED_ONCE,
    ),
    boundary(
        BOUNDARY,
        "/namespaces/*",
        "*",
        "The kernel's numbers of namespaces, which nobody else reads; that of the network is compared.",
    ),
    boundary(
        BOUNDARY,
        "/output/*",
        "*",
        "Only the supervisor passed the command's output on.",
    ),
    boundary(
        BOUNDARY,
        "/policy/overridden",
        "unknown_element",
        "The caller's own policy file, from which keys were replaced, is no part of the packet.",
    ),
    boundary(BOUNDARY, "/probes/results/*/detail", "*", WORDS_OF_AN_ERROR),
    boundary(
        BOUNDARY,
        "/probes/seen_by_hooks",
        "*",
        "Only the kernel counts the attempts of the probes.",
    ),
    boundary(BOUNDARY, "/programs/attached", "reordered", ORDER),
    boundary(BOUNDARY, "/programs/attached/*", "swapped", ORDER),
    boundary(BOUNDARY, "/programs/links", "reordered", ORDER),
    boundary(BOUNDARY, "/programs/links/*", "swapped", ORDER),
    boundary(
        BOUNDARY,
        "/programs/object_sha256",
        "one_digit",
        "The tag of each program is bound by the receipts; the digest of the file that held them is the supervisor's word.",
    ),
    boundary(
        BOUNDARY,
        "/seccomp/relay_sha256",
        "*",
        "Only the relay knows its own filter.",
    ),
    boundary(
        BOUNDARY,
        "/timeline*",
        "*",
        "Only the supervisor's own clock; the order of the steps is compared.",
    ),
    boundary(
        BOUNDARY,
        "/users/pipelock-relay",
        "*",
        "Nobody else names the relay's user.",
    ),
    boundary(
        BOUNDARY,
        "/view/*",
        "*",
        "Only the supervisor made the file view of the command.",
    ),
    boundary(BOUNDARY, "/workspace/path", "*", CALLERS_WISH),
    boundary(
        BOUNDARY,
        "/workspace/protected",
        "unknown_element",
        CALLERS_WISH,
    ),
    boundary(FLOWS, "/kernel.*", "swapped", ORDER),
    boundary(FLOWS, "/kernel.*", "twice", KERNEL_ALONE),
    boundary(FLOWS, "/kernel.*/cookie", "*", KERNEL_ALONE),
    boundary(FLOWS, "/kernel.*/exe", "*", PROCESS),
    boundary(FLOWS, "/kernel.*/pid", "*", PROCESS),
    boundary(FLOWS, "/kernel.*/sock_type", "*", KERNEL_ALONE),
    boundary(
        FLOWS,
        "/kernel.*/name",
        "null",
        "The kernel's record may be read before the answer of the resolver, so a name may be missing.",
    ),
    boundary(FLOWS, "/kernel.*/port", "*", KERNEL_ALONE),
    boundary(
        FLOWS,
        "/kernel.*/dst",
        "upper_case",
        "An address means the same in either case.",
    ),
    boundary(FLOWS, "/kernel_close*", "*", CLOSE),
    boundary(FLOWS, "/kernel_mediator*", "*", MEDIATOR_SOCKETS),
    boundary(FLOWS, "/kernel_repeats.*", "*", KERNEL_ALONE),
    boundary(FLOWS, "/relay.*", "at_the_front", WITHIN_SECONDS),
    boundary(FLOWS, "/relay.*", "swapped", WITHIN_SECONDS),
    boundary(FLOWS, "/relay.*/duration_us", "*", WITHIN_SECONDS),
    boundary(FLOWS, "/relay.*/ts", "*", WITHIN_SECONDS),
    boundary(
        FLOWS,
        "/relay.*/orig_dst",
        "upper_case",
        "An address means the same in either case.",
    ),
    boundary(
        FLOWS,
        "/relay.blocked.*/status",
        "*",
        "A receipt of a denial states no status.",
    ),
    boundary(
        FLOWS,
        "/relay.forwarded.websocket.*/status",
        "*",
        "A receipt of a WebSocket states no status.",
    ),
    boundary(
        FLOWS,
        "/relay.forwarded.connect.*/protocol",
        "*",
        "Only the relay reads what is spoken in a tunnel.",
    ),
    boundary(
        FLOWS,
        "/relay.forwarded.websocket.*/target",
        "other_method",
        "A receipt of a WebSocket states no method.",
    ),
    boundary(FLOWS, "/relay.refused.*", "*", RELAY_ALONE),
    boundary(FLOWS, "/resolver*", "*", WITHIN_SECONDS),
    boundary(FLOWS, "/supervisor.*", "swapped", WITHIN_SECONDS),
    boundary(FLOWS, "/supervisor.*/links*", "*", ORDER),
    boundary(
        FLOWS,
        "/supervisor.end/clock_set_ms",
        "*",
        "Only the supervisor compares the clocks; a larger number than needed shows itself by its size.",
    ),
    boundary(FLOWS, "/supervisor.*/ts", "*", WITHIN_SECONDS),
    boundary(
        FLOWS,
        "/supervisor.heartbeat/processes",
        "*",
        "Only the supervisor counts the command's processes.",
    ),
    boundary(PACKET, "/", "white_space", WHITE_SPACE),
    boundary(PACKET, "/generated_at", "*", WITHIN_SECONDS),
    boundary(PACKET, "/run/started_at", "*", WITHIN_SECONDS),
    boundary(PACKET, "/run/completed_at", "*", WITHIN_SECONDS),
    boundary(
        PACKET,
        "/run/agent_exit_code",
        "*",
        "Only the supervisor reaped the command.",
    ),
    boundary(
        PACKET,
        "/posture/docker_socket_status",
        "*",
        "Only the supervisor looked whether the host has the socket; either way the command did not reach it.",
    ),
    boundary(PACKET, "/posture/script_arg_count", "*", CALLERS_WISH),
    boundary(PACKET, "/posture/script_basename", "*", CALLERS_WISH),
    boundary(
        PACKET,
        "/summary/layers",
        "removed",
        "A writer may leave this list out; the receipts hold it.",
    ),
    boundary(
        PACKET,
        "/verifier/signer_key",
        "*",
        "It is the same key in other letters.",
    ),
    boundary("posture-capsule.json", "/", "white_space", WHITE_SPACE),
    boundary(CHANGES, "/", "white_space", WHITE_SPACE),
    boundary(CHANGES, "/changes", "reordered", ORDER),
    boundary(
        CHANGES,
        "/changes/*",
        "*",
        "Only the supervisor saw what the command changed; the numbers are compared.",
    ),
    boundary(
        CHANGES,
        "/",
        "byte_middle",
        "Only the supervisor saw what the command changed; the numbers are compared.",
    ),
    boundary(
        "attestation.json#statement",
        "/subject/*/annotations*",
        "*",
        "A packet of an earlier version states no size; the digest alone decides which bytes are signed.",
    ),
    boundary("attestation.json#statement", "/subject", "reordered", ORDER),
    boundary("attestation.json#statement", "/subject/*", "swapped", ORDER),
    boundary("attestation.json", "/", "white_space", WHITE_SPACE),
    mediator(
        "evidence.jsonl",
        "/*",
        "swapped",
        "Two requests at once may be signed in either order.",
    ),
    mediator(ENTRY, "/*/ts", "*", ENVELOPE),
    mediator(ENTRY, "/*/event_kind", "*", ENVELOPE),
    mediator(ENTRY, "/*/transport", "*", ENVELOPE),
    mediator(ENTRY, "/*/summary", "removed", ENVELOPE),
    mediator(ENTRY, "/*/seq", "removed", WRITTEN_ANEW),
    mediator(ENTRY, "/*/prev_hash", "removed", WRITTEN_ANEW),
    mediator(ENTRY, "/checkpoint/detail", "empty", WRITTEN_ANEW),
    mediator(ENTRY, "/checkpoint/detail/*", "removed", WRITTEN_ANEW),
    mediator(ENTRY, "/transcript_root/detail/*", "removed", WRITTEN_ANEW),
    mediator(
        ENTRY,
        "/transcript_root/detail/root_hash",
        "swapped",
        WRITTEN_ANEW,
    ),
    mediator(ENTRY, "/*/seq", "swapped", WRITTEN_ANEW),
    mediator(ENTRY, "/*/v", "swapped", WRITTEN_ANEW),
    mediator(ENTRY, "/transcript_root/detail/start_time", "*", ROOT_TIMES),
    mediator(ENTRY, "/transcript_root/detail/end_time", "*", ROOT_TIMES),
    mediator(
        ENTRY,
        "/*/v",
        "minus_one",
        "Version 1 of the envelope has the same members.",
    ),
    mediator(
        ENTRY,
        "/*",
        "unknown_member",
        "A member that no format has is in no hash of an entry, and nobody reads it.",
    ),
    mediator(
        "evidence.jsonl",
        "/checkpoint",
        "twice",
        "A mediator may sign as many checkpoints as it likes.",
    ),
    mediator(
        "evidence.jsonl",
        "/transcript_root",
        "twice",
        "The second one describes the same chain.",
    ),
    mediator(
        RECORD,
        "/*/actor",
        "*",
        "Only the mediator names the actor of each receipt; that the packet's agent is one of them is compared.",
    ),
    mediator(
        RECORD,
        "/receipt_session.*",
        "*",
        "The mediator's own record about its session, of which the nonces, hashes and numbers are compared.",
    ),
    mediator(RECORD, "/*/principal", "*", OWN_WORD),
    mediator(RECORD, "/*/request_id", "*", OWN_WORD),
    mediator(RECORD, "/*/pattern", "*", OWN_WORD),
    mediator(
        RECORD,
        "/*.block.*/action_id",
        "*",
        "An id that no other receipt has.",
    ),
    mediator(
        RECORD,
        "/*.block.*/target",
        "*",
        "Letters of either case, a query, and white space name the same place.",
    ),
    mediator(RECORD, "/*/timestamp", "*", WITHIN_SECONDS),
    boundary(
        "evidence.jsonl",
        "/",
        "byte_last",
        "The byte behind the last line ends it, whichever white space it is.",
    ),
    boundary(
        "evidence.jsonl",
        "/*",
        "unknown_member",
        "A member that no format has is in no hash of an entry, and nobody reads it.",
    ),
    boundary(
        "evidence.jsonl",
        "/*/transport",
        "removed",
        "An entry without a transport has an empty one, which is hashed alike.",
    ),
];
