//! Runs an unmodified, real Pipelock as the mediator: starts it, waits until it is ready, watches it, and stops it.
//!
//! [`binary`] copies the binary. [`ports`] reserves its ports. [`config`] and `resolver` write the files that it reads.
//! [`exec`] is the process that executes it. [`start`] checks that it is ready. [`end`] stops it once its receipts are
//! written. [`facts`] is its record in the packet.
pub mod binary;
pub mod config;
pub mod digest;
pub mod end;
pub mod error;
pub mod evidence;
pub mod exec;
pub mod facts;
pub mod http;
mod log;
pub mod ports;
mod resolver;
pub mod start;

pub use config::Authority;
pub use end::LetThrough;
pub use error::PipelockError;
pub use exec::main;
pub use start::Pipelock;
