//! How the agent came to its end.

/// How the agent came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this status (128 + signal for a signal).
    Exited(i32),
    /// It was never executed: 126 or 127.
    NotExecuted(i32),
    /// The time-out ended it.
    TimedOut,
    /// Something that the boundary rests on failed, and the agent was ended for it.
    Failed(String),
}
