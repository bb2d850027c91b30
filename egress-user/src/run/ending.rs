//! The end of the command.
pub use egress_sandbox::child::refused::NotExecuted;

/// How the command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The command ended with this status, which is 128 + signal number if a signal ended it.
    Exited(i32),
    /// The command could not be executed.
    NotExecuted(NotExecuted),
    /// The timeout ended the command.
    TimedOut,
    /// The supervisor ended the command, because a part of the boundary failed. The text names the part.
    Failed(String),
}

impl Ending {
    /// Returns the status that the command ended with, or the status for the reason why the command could not be
    /// executed.
    pub fn status(&self) -> Option<i32> {
        match self {
            Self::Exited(status) => Some(*status),
            Self::NotExecuted(why) => Some(why.status()),
            Self::TimedOut | Self::Failed(_) => None,
        }
    }
}
