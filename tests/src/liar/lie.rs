//! A lie, and whether a verifier can detect it.
use super::testimony::Testimony;

/// A false statement of a mediator.
#[derive(Clone, Copy, Debug)]
pub struct Lie {
    /// Name of the lie.
    pub name: &'static str,
    /// Whether a verifier can detect the lie if the built-in mediator tells it.
    pub builtin: Expected,
    /// Whether a verifier can detect the lie if Pipelock 3.1 or later tells it. Such a Pipelock signs sessions,
    /// intents, and outcomes.
    pub with_sessions: Expected,
    /// Whether a verifier can detect the lie if an older Pipelock tells it.
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
