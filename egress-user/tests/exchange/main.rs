//! Runs the relay and the built-in mediator in this process, on loopback only, and compares three counts of the same
//! bytes: what the origin received, what the relay's row holds, and what the receipt holds.
#![expect(
    clippy::expect_used,
    clippy::format_collect,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "test support panics where a test fails"
)]

mod answered;
mod cut;
mod early;
#[path = "../../../crates/http/tests/support/hello.rs"]
mod hello;
#[expect(dead_code, reason = "the relay's own tests use the rest")]
#[path = "../relay/mediator.rs"]
mod mediator;
mod origin;
#[path = "../support/records.rs"]
mod records;
mod rows;
#[expect(
    dead_code,
    unreachable_pub,
    reason = "the mediator's own tests use the rest"
)]
#[path = "../mediator/support.rs"]
mod support;
#[expect(dead_code, reason = "the relay's own tests use the rest")]
#[path = "../relay/world.rs"]
mod world;
