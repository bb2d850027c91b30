//! Errors that keep Pipelock from being the mediator of a run.
use std::io;
use std::path::PathBuf;

use egress_policy::PolicyError;
use thiserror::Error;

/// An error before the command starts. The run ends with this error.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PipelockError {
    /// A file that Pipelock needs cannot be read or written.
    #[error("cannot {what} {path}")]
    File {
        /// The operation, as a verb.
        what: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// A system call of the supervisor failed.
    #[error("cannot {what}")]
    System {
        /// The operation, as a verb and its object.
        what: &'static str,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The caller's file is not a policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Pipelock rejects its configuration.
    #[error("Pipelock rejects its configuration; it printed: {words}")]
    Refused {
        /// End of Pipelock's log.
        words: String,
    },
    /// Pipelock exited before it was ready.
    #[error("Pipelock exited before it was ready{how}; it printed: {words}")]
    Ended {
        /// How Pipelock ended, in parentheses.
        how: String,
        /// End of Pipelock's log.
        words: String,
    },
    /// Pipelock runs, but did not become ready in time.
    #[error("Pipelock is not ready after {seconds} s: {reason}; it printed: {words}")]
    NotReady {
        /// The time that Pipelock had, in seconds.
        seconds: u64,
        /// The check that fails.
        reason: String,
        /// End of Pipelock's log.
        words: String,
    },
    /// Another process has Pipelock's port.
    #[error(
        "the socket at {address} belongs to user id {found}, not to Pipelock's {wanted}; \
         another process took the port; start the run again"
    )]
    Poser {
        /// Address of the socket.
        address: std::net::SocketAddrV4,
        /// User id of the socket's owner.
        found: u32,
        /// User id of Pipelock.
        wanted: u32,
    },
    /// Pipelock's session does not bind the boundary.
    #[error("Pipelock's session_open does not bind the posture capsule of this run: {found}")]
    NotBound {
        /// What was found instead: another capsule, no capsule, or no `session_open`.
        found: String,
    },
}

/// Adds the operation to an error of a system call.
pub(super) fn system<T>(what: &'static str, done: io::Result<T>) -> Result<T, PipelockError> {
    done.map_err(|source| PipelockError::System { what, source })
}
