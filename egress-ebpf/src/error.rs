//! What goes wrong inside a program, and the one table that turns it into a verdict.
use aya_ebpf::EbpfContext;
use egress_common::abi::Counter;
use egress_common::decide;
use egress_common::verdict::Verdict;

use crate::counters::count;

/// Says something about a program's own doings, in the object with feature `log` only.
macro_rules! diagnose {
    ($ctx:expr, $($text:tt)+) => {{
        #[cfg(feature = "log")]
        aya_log_ebpf::debug!($ctx, $($text)+);
        #[cfg(not(feature = "log"))]
        let _ = &$ctx;
    }};
}
pub(crate) use diagnose;

/// A hook's answer to the kernel: go on.
pub const PASS: i32 = 1;
/// A hook's answer to the kernel: `EPERM`.
pub const REFUSE: i32 = 0;

/// A hook's answer to the kernel for what was decided.
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
    /// The loader of another version filled the settings, or nobody did.
    Config,
    /// The socket has no storage and none could be made.
    Storage,
    /// A packet is shorter than its headers.
    Packet,
}

impl Error {
    /// The answer of a gate: each arm refuses.
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
