//! The changes that nobody can see, and why.
use super::attacker::Attacker;

mod boundary;
mod mediator;
mod pipelock;

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
const BUILTIN: &[By] = &[By::Builtin];
/// Those whose receipts have sessions.
const SESSIONS: &[By] = &[By::Builtin, By::Pipelock];
const PIPELOCK: &[By] = &[By::Pipelock];
const OLD_PIPELOCK: &[By] = &[By::OldPipelock];
const PIPELOCKS: &[By] = &[By::Pipelock, By::OldPipelock];

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

/// What the boundary alone states where the mediator is one of these.
const fn boundary_with(
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

/// What these mediators alone state.
const fn mediator(
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
        reason,
    }
}

/// What whoever has no key may write otherwise.
const fn keyless(
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
const SUPERVISOR_SAW: &str =
    "Only the supervisor saw what the command changed; the numbers are compared.";
const ARCHIVE: &str =
    "Only the supervisor has the files that it kept; that there is an archive is compared.";
const OTHER_SIGNATURE: &str = "Only the mediator writes the second receipt; target, verdict, and rule are those of the first.";
const DURABILITY: &str = "Only the mediator knows how often it could not write.";
const WORDS_OF_AN_ERROR: &str = "The words of an error, which nobody else heard.";

const BOUNDARY: &str = "boundary.json";
const PACKET: &str = "packet.json";
const CHANGES: &str = "changes.json";
const FLOWS: &str = "flows.jsonl";

/// The whole table.
pub(super) fn table() -> impl Iterator<Item = &'static Harmless> {
    let tables = boundary::TABLE.iter().chain(mediator::TABLE);
    tables.chain(pipelock::TABLE)
}
