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

pub(super) static HARMLESS: &[Harmless] = &[];
