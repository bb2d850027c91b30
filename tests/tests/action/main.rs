//! Tests the GitHub Action with a real workflow runner: `act` runs the project's test workflows in the test world,
//! without Docker and without any other network, as an ordinary user with `sudo`.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "a test whose files cannot be made has failed"
)]

mod agent;
mod examples;
mod failures;
mod hygiene;
mod options;
mod scenarios;
mod secrets;
mod timestamp;
