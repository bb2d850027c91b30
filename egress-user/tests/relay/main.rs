//! Runs the relay in this process, with a fake slot source and a fake mediator, on loopback only.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "test support panics where a test fails"
)]

mod dns;
#[path = "../../../crates/http/tests/support/hello.rs"]
mod hello;
mod http;
mod mediator;
mod mediators_limits;
mod process;
mod proxy;
#[path = "../support/records.rs"]
mod records;
mod tls;
mod tunnel;
mod unfinished;
mod websocket;
mod world;
