//! Tests the relay, the built-in mediator, and both together, on loopback only.
#![cfg(target_os = "linux")]
#![expect(
    unreachable_pub,
    clippy::expect_used,
    clippy::format_collect,
    clippy::indexing_slicing,
    clippy::large_stack_arrays,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "test support panics where a test fails"
)]
use std::sync::{Mutex, MutexGuard, PoisonError};

mod exchange;
mod mediator;
mod relay;

/// Takes a lock. Hold the lock while descriptors are open that a child inherits, because the child of another test
/// would inherit them as well.
fn inheriting() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}
