//! The entries of the table.
use super::super::attacker::Attacker;

/// The mediator of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The built-in mediator.
    Builtin,
    /// A Pipelock whose receipts have sessions.
    Pipelock,
    /// An older Pipelock.
    OldPipelock,
}

/// An entry of the table. In `path` and `operator`, a `*` matches any text. In `operator`, a `|` separates patterns,
/// one of which must match.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Harmless {
    /// Mediators to which the entry applies.
    with: &'static [By],
    attacker: Attacker,
    file: &'static str,
    path: &'static str,
    operator: &'static str,
    /// Whether some packets have only changes of this kind that are detected.
    varies: bool,
    /// Reason why no verifier can detect the change.
    #[expect(dead_code, reason = "it explains the table to a reader")]
    reason: &'static str,
}

impl Harmless {
    pub(in super::super) fn is_of(&self, by: By) -> bool {
        self.with.contains(&by)
    }

    /// Marks an entry whose changes are all detected in some packets, for example because of timing.
    pub(super) const fn in_some_packets(self) -> Self {
        Self {
            varies: true,
            ..self
        }
    }

    /// Returns whether the entry is needed for the packet of a test. `explains` states whether it explained a change,
    /// and `fits` states whether the test made a change that it could explain.
    pub(in super::super) const fn is_needed(&self, explains: bool, fits: bool) -> bool {
        explains || self.varies && fits
    }

    /// Returns whether the entry explains this change.
    pub(in super::super) fn fits(
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
            && self
                .operator
                .split('|')
                .any(|pattern| is_like(operator, pattern))
    }
}

/// Returns whether a text matches a pattern.
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

pub(super) const ALL: &[By] = &[By::Builtin, By::Pipelock, By::OldPipelock];
pub(super) const BUILTIN: &[By] = &[By::Builtin];
/// The mediators whose receipts have sessions.
pub(super) const SESSIONS: &[By] = &[By::Builtin, By::Pipelock];
pub(super) const PIPELOCK: &[By] = &[By::Pipelock];
pub(super) const OLD_PIPELOCK: &[By] = &[By::OldPipelock];
pub(super) const PIPELOCKS: &[By] = &[By::Pipelock, By::OldPipelock];

/// Returns an entry for a statement that only the boundary makes.
pub(super) const fn boundary(
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
        varies: false,
        reason,
    }
}

/// Returns an entry for a statement that only the boundary makes, limited to runs with these mediators.
pub(super) const fn boundary_with(
    with: &'static [By],
    file: &'static str,
    path: &'static str,
    operator: &'static str,
    reason: &'static str,
) -> Harmless {
    Harmless {
        with,
        ..boundary(file, path, operator, reason)
    }
}

/// Returns an entry for a statement that only these mediators make.
pub(super) const fn mediator(
    with: &'static [By],
    file: &'static str,
    path: &'static str,
    operator: &'static str,
    reason: &'static str,
) -> Harmless {
    Harmless {
        with,
        attacker: Attacker::Mediator,
        file,
        path,
        operator,
        varies: false,
        reason,
    }
}

/// Returns an entry for a text that an attacker without a key can change.
pub(super) const fn keyless(
    file: &'static str,
    path: &'static str,
    operator: &'static str,
    reason: &'static str,
) -> Harmless {
    Harmless {
        with: ALL,
        attacker: Attacker::Keyless,
        file,
        path,
        operator,
        varies: false,
        reason,
    }
}

pub(super) const OWN_WORD: &str = "Only the mediator classifies the action.";
pub(super) const ENVELOPE: &str =
    "Only the mediator writes the envelope of a receipt, and nothing else depends on it.";
pub(super) const WRITTEN_ANEW: &str =
    "An attacker that signs again also computes this member again, which reverts the change.";
pub(super) const ROOT_TIMES: &str =
    "Only the mediator summarizes its times; the times of the receipts are compared.";
pub(super) const ENTRY: &str = "evidence.jsonl#entry";
pub(super) const RECORD: &str = "evidence.jsonl#record";
pub(super) const ORDER: &str = "The order of these elements has no meaning.";
pub(super) const WHITE_SPACE: &str = "White space around a JSON document has no meaning.";
pub(super) const KERNEL_ALONE: &str =
    "Only the kernel recorded this attempt, because its destination keeps no record.";
pub(super) const PROCESS: &str =
    "Only the kernel and /proc identify the process, and only the supervisor reads both.";
pub(super) const CLOSE: &str =
    "Only the kernel counts these bytes; the relay's counts are only compared as bounds.";
pub(super) const MEDIATOR_SOCKETS: &str = "Only the kernel sees the mediator's sockets. Receipts do not name addresses or name servers, and their byte counts exclude headers, TLS, and requests that the mediator made by itself. Addresses that are denied on every machine are compared.";
pub(super) const WITHIN_SECONDS: &str = "Times are compared with a tolerance of seconds, because the records of a busy machine are late.";
/// The operators that change a time by seconds: by one second, or to another time of the same run.
pub(super) const SECONDS: &str = "second_*|word=2*|swapped|neighbour";
pub(super) const RELAY_ALONE: &str = "Only the relay recorded the value, because the request did not reach the mediator or the mediator does not sign the value.";
pub(super) const MEASURED_ONCE: &str =
    "Only the supervisor measured the value, and nothing else in the packet depends on the value.";
pub(super) const CALLERS_WISH: &str =
    "The caller chose the value, and nothing else in the packet records the choice.";
pub(super) const SAME_CHANGES: &str = "The archive of the other run contains the same files. Only their times differ, and no other file of the packet has these times.";
pub(super) const SUPERVISOR_SAW: &str = "Only the supervisor saw what the command changed. The numbers, the archive, and the rules of the workspace are compared.";
pub(super) const OTHER_SIGNATURE: &str = "Only the mediator writes the second receipt; target, verdict, and rule are those of the first.";
pub(super) const DURABILITY: &str = "Only the mediator counts the writes that failed.";
pub(super) const WORDS_OF_AN_ERROR: &str =
    "The text of an error, which nothing else in the packet repeats.";

pub(super) const BOUNDARY: &str = "boundary.json";
pub(super) const PACKET: &str = "packet.json";
pub(super) const CHANGES: &str = "changes.json";
pub(super) const FLOWS: &str = "flows.jsonl";
