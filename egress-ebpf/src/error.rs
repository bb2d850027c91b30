//! What goes wrong inside a program, and the one table that turns it into a verdict.
use egress_common::abi::Counter;

use crate::maps::count;

/// A hook's answer to the kernel: go on.
pub const PASS: i32 = 1;
/// A hook's answer to the kernel: `EPERM`.
pub const REFUSE: i32 = 0;

/// Why a program could not reach a decision.
#[derive(Clone, Copy)]
pub enum Error {
    /// The loader of another version filled the settings, or nobody did.
    Config,
    /// The socket has no storage and none could be made.
    Storage,
}

impl Error {
    /// The answer of a gate: each arm refuses.
    #[inline(always)]
    pub fn refuse(self) -> i32 {
        match self {
            Self::Config | Self::Storage => {
                count(Counter::Internal);
                REFUSE
            }
        }
    }
}
