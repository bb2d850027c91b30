//! A lie, and what can be done about it.
use super::testimony::Testimony;

/// What a mediator claims that is not true.
#[derive(Clone, Copy, Debug)]
pub struct Lie {
    /// One word for it.
    pub name: &'static str,
    /// What is to be found out about it when the built-in mediator tells it.
    pub builtin: Expected,
    /// The same for a Pipelock that signs sessions, intents and outcomes (3.1 and later).
    pub with_sessions: Expected,
    /// The same for an older Pipelock.
    pub without_sessions: Expected,
    pub(super) tell: fn(&mut Testimony),
}

impl Lie {
    /// Has the mediator testify what is not true.
    pub(crate) fn tell(&self, testimony: &mut Testimony) {
        (self.tell)(testimony);
    }
}

/// What a verifier of the whole packet can do about a lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Name the disagreement, and not give the highest grade.
    Named,
    /// Nothing, for this reason.
    Unknowable(&'static str),
    /// This mediator has nothing to say that the lie could change.
    Senseless,
}

/// The name of the lie that is none.
pub const TRUTH: &str = "none";
