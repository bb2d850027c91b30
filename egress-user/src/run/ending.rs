//! The end of the command.

/// How the command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The command ended with this status, which is 128 + signal number if a signal ended it.
    Exited(i32),
    /// The command could not be executed: 126 or 127.
    NotExecuted(i32),
    /// The timeout ended the command.
    TimedOut,
    /// The supervisor ended the command, because a part of the boundary failed. The text names the part.
    Failed(String),
}
