//! Exit statuses, part of the interface.

/// Success.
pub const OK: u8 = 0;
/// Everything that the caller typed or named.
pub const USAGE: u8 = 64;
/// The command ran, its evidence is invalid or missing.
pub const EVIDENCE: u8 = 123;
/// The time-out ended the command.
pub const TIMED_OUT: u8 = 124;
/// The machine, the boundary or the mediator failed.
pub const BOUNDARY: u8 = 125;
