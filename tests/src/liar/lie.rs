//! A lie, and whether a verifier can detect it.
use super::testimony::Testimony;

/// A false statement of a mediator.
#[derive(Clone, Copy, Debug)]
pub struct Lie {
    /// Name of the lie.
    pub name: &'static str,
    /// Whether the lie can be detected if the built-in mediator tells it.
    pub builtin: Expected,
    /// Whether it can be detected if a Pipelock tells it that signs sessions, intents, and outcomes (3.1 and later).
    pub with_sessions: Expected,
    /// Whether it can be detected if an older Pipelock tells it.
    pub without_sessions: Expected,
    pub(super) tell: fn(&mut Testimony),
}

impl Lie {
    /// Changes the evidence.
    pub(crate) fn tell(&self, testimony: &mut Testimony) {
        (self.tell)(testimony);
    }
}

/// Whether a verifier of the whole packet can detect a lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The verifier reports the disagreement, and does not give the highest grade.
    Named,
    /// The verifier cannot detect the lie, for this reason.
    Unknowable(&'static str),
    /// The evidence of this mediator has nothing that the lie could change.
    Senseless,
}

/// The name of the lie that changes nothing.
pub const TRUTH: &str = "none";
