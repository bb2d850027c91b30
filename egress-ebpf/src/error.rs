//! Errors inside a program, and the return values of hooks.
use aya_ebpf::EbpfContext;
use egress_common::abi::Counter;
use egress_common::decide;
use egress_common::verdict::Verdict;

use crate::counters::count;

/// Writes a debug message. Only the object with feature `log` contains the code.
macro_rules! diagnose {
    ($ctx:expr, $($text:tt)+) => {{
        #[cfg(feature = "log")]
        aya_log_ebpf::debug!($ctx, $($text)+);
        #[cfg(not(feature = "log"))]
        let _ = &$ctx;
    }};
}
pub(crate) use diagnose;

/// Return value of a hook that allows the call.
pub const PASS: i32 = 1;
/// Return value of a hook that makes the call fail with `EPERM`.
pub const REFUSE: i32 = 0;

/// Returns the value that a hook returns for a verdict.
#[inline(always)]
pub fn answer(verdict: Verdict) -> i32 {
    if decide::passes(verdict) {
        PASS
    } else {
        REFUSE
    }
}

/// Why a program could not reach a decision.
#[derive(Clone, Copy)]
pub enum Error {
    /// The settings are empty, or a loader of another version filled them.
    Config,
    /// The socket has no storage, and none could be created.
    Storage,
    /// A packet is shorter than its headers.
    Packet,
}

impl Error {
    /// Counts the error and returns [`REFUSE`].
    #[inline(always)]
    pub fn refuse(self, ctx: &impl EbpfContext) -> i32 {
        match self {
            Self::Config => diagnose!(ctx, "refused: settings of another version"),
            Self::Storage => diagnose!(ctx, "refused: no socket storage"),
            Self::Packet => diagnose!(ctx, "refused: a packet shorter than its headers"),
        }
        count(Counter::Internal);
        REFUSE
    }
}
