//! The mediator's process as the supervisor starts it: plan, privileges, control socket, end.
//!
//! Speaks as much of the test harness's language as test runners need.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test, which the lints do not recognise without the usual harness"
)]

fn main() {
    #[cfg(target_os = "linux")]
    linux::main();
}

#[cfg(target_os = "linux")]
#[path = "mediator_process/linux.rs"]
mod linux;
