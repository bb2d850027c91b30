//! Why Pipelock cannot be the mediator of a run.
use std::io;
use std::path::PathBuf;

use egress_policy::PolicyError;
use thiserror::Error;

/// Before the agent runs: the run ends with it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PipelockError {
    /// A file that it needs cannot be made.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A call of the supervisor.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The caller's document is no policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// It does not take its configuration.
    #[error("it refuses its configuration: {words}")]
    Refused {
        /// What it said.
        words: String,
    },
    /// It ended before it was ready.
    #[error("it ended before it was ready{how}: {words}")]
    Ended {
        /// How, in brackets.
        how: String,
        /// What it said last.
        words: String,
    },
    /// It lives and is not ready.
    #[error("it is not ready after {seconds} s: {reason}; it said: {words}")]
    NotReady {
        /// How long it had.
        seconds: u64,
        /// What is missing.
        reason: String,
        /// What it said last.
        words: String,
    },
    /// Somebody else has its port.
    #[error(
        "the socket at {address} belongs to user id {found}, not to Pipelock's {wanted}: \
         another process took the port"
    )]
    Poser {
        /// Where.
        address: std::net::SocketAddrV4,
        /// Whose it is.
        found: u32,
        /// Whose it ought to be.
        wanted: u32,
    },
    /// It has not signed the boundary.
    #[error("its session_open does not bind the posture capsule of this run: {found}")]
    NotBound {
        /// What there was instead.
        found: String,
    },
}

/// Names a call that failed.
pub(super) fn system<T>(what: &'static str, done: io::Result<T>) -> Result<T, PipelockError> {
    done.map_err(|source| PipelockError::System { what, source })
}
