//! Runs an unmodified, real Pipelock as the mediator: starts it, waits until it is ready, watches it, and stops it.
//!
//! [`binary`] copies Pipelock's binary to a place where only root can change it. [`ports`] reserves
//! Pipelock's ports. [`config`] and `resolver` write the files that Pipelock reads. [`exec`] is the
//! process that executes Pipelock. [`start`] checks that Pipelock is ready. [`end`] stops Pipelock
//! once its receipts are written. [`facts`] is the record of Pipelock in the packet.
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
