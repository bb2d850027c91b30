//! The process that judges and signs: the built-in mediator, or a real Pipelock.
pub mod builtin;
pub mod plan;
pub mod process;
