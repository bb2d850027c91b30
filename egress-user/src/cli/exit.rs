//! Exit statuses. Scripts and workflows depend on these statuses.
//!
//! A command can also exit with any of these statuses, so only the packet is evidence of the result.

/// `verify`: valid, and the end is proven or `--allow-prefix` is given. `run`: the command exited with 0.
pub const SUCCESS: u8 = 0;
/// `verify`: invalid, nothing to verify, a grade that is too low, or no pinned key and no `--allow-unpinned`. `doctor`:
/// something is missing or was left behind. `policy suggest`: the flow log is broken, or the allow-list would be too
/// long.
pub const INVALID: u8 = 1;
/// `verify`, `policy suggest`: a file cannot be read. `keygen`: the key cannot be written. `policy`, `completions`,
/// `man`: the output cannot be written.
pub const CANNOT_READ: u8 = 2;
/// `verify`: every check passes, but the end of the evidence is not proven, so receipts may be missing there.
pub const END_UNPROVEN: u8 = 3;
/// All subcommands: an argument, or a file that it names, is wrong, or arguments contradict each other.
pub const USAGE: u8 = 64;
/// `run`: the command ran, and its evidence, or a requested time stamp, is invalid or missing.
pub const EVIDENCE: u8 = 123;
/// `run`: `--timeout` ended the command.
pub const TIMED_OUT: u8 = 124;
/// `run`: the machine, the boundary, or the mediator failed. Takes precedence over all other statuses.
pub const FAILED: u8 = 125;
/// `run`: the command was found but cannot be executed.
pub const CANNOT_EXECUTE: u8 = 126;
/// `run`: the command was not found.
pub const NOT_FOUND: u8 = 127;
/// `run`: added to the number of the signal that ended the command.
pub const SIGNAL_BASE: u8 = 128;

/// Returns the exit status of a finished run.
#[cfg(target_os = "linux")]
pub fn of(outcome: crate::run::emit::RunOutcome) -> u8 {
    use crate::run::emit::RunOutcome;
    match outcome {
        RunOutcome::BoundaryFailed => FAILED,
        RunOutcome::EvidenceUnsound => EVIDENCE,
        RunOutcome::TimedOut => TIMED_OUT,
        RunOutcome::Command(status) => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_do_not_change() {
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
