//! Exit statuses. They are interface: scripts and workflows depend on them.
//!
//! An agent may exit with any of these too; the packet, not the status, is the evidence.

/// `verify`: valid, and the end is proven or `--allow-prefix` was given. `run`: the agent's own.
pub const SUCCESS: u8 = 0;
/// `verify`: invalid, nothing there to verify, or no key pinned without `--allow-unpinned`. `doctor`:
/// something is missing or was left. `policy suggest`: the flow log is broken, or no list would do.
pub const INVALID: u8 = 1;
/// `verify`, `policy suggest`: what was named cannot be read. `keygen`: the key cannot be written.
pub const CANNOT_READ: u8 = 2;
/// `verify`: everything holds as far as it goes, but nothing proves that the end was not cut off.
pub const END_UNPROVEN: u8 = 3;
/// Every command: a wrong or contradictory argument, or a file of the caller's that is wrong.
pub const USAGE: u8 = 64;
/// `run`: the agent ran, and its evidence, or a time stamp that was asked for, is invalid or missing.
pub const EVIDENCE: u8 = 123;
/// `run`: the time given with `--timeout` was over.
pub const TIMED_OUT: u8 = 124;
/// `run`: the machine, the boundary or the mediator failed. Comes before all others.
pub const FAILED: u8 = 125;
/// `run`: the agent's command was found and cannot be executed.
pub const CANNOT_EXECUTE: u8 = 126;
/// `run`: the agent's command was not found.
pub const NOT_FOUND: u8 = 127;
/// `run`: added to the number of the signal that ended the agent.
pub const SIGNAL_BASE: u8 = 128;

/// The status of a finished run.
#[cfg(target_os = "linux")]
pub fn of(outcome: crate::run::emit::Outcome) -> u8 {
    use crate::run::emit::Outcome;
    match outcome {
        Outcome::BoundaryFailed => FAILED,
        Outcome::EvidenceUnsound => EVIDENCE,
        Outcome::TimedOut => TIMED_OUT,
        Outcome::Command(status) => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_what_scripts_know() {
        assert_eq!(
            [SUCCESS, INVALID, CANNOT_READ, END_UNPROVEN, USAGE],
            [0, 1, 2, 3, 64]
        );
        assert_eq!(
            [
                EVIDENCE,
                TIMED_OUT,
                FAILED,
                CANNOT_EXECUTE,
                NOT_FOUND,
                SIGNAL_BASE
            ],
            [123, 124, 125, 126, 127, 128]
        );
    }
}
