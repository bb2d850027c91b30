//! The built-in mediator in this process, against origins on loopback.
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
    reason = "a test: its support is outside of test functions, where the lints do not look for one"
)]
mod connect;
mod failure;
mod forward;
#[path = "../../../crates/http/tests/support/hello.rs"]
mod hello;
mod load;
mod stop;
mod support;
mod websocket;
