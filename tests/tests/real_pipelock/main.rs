//! The tests with a real Pipelock of any version. `PIPELOCK_BIN` names the binary.
//!
//! `cargo xtask test --real-pipelock` runs these tests. A test reads from the packet what this version supports:
//! `left_out` in `boundary.json` lists the keys that it does not support.
#![forbid(unsafe_code)]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot read the result of its run has failed"
)]

mod action;
mod carried;
mod clients;
mod config;
mod control_paths;
mod ending;
mod failures;
mod grade;
mod hints;
mod honest;
mod inspection;
mod interception;
mod lies;
mod load;
mod mutations;
mod plain_http;
mod posture;
mod relay;
mod secret_urls;
mod support;
mod traffic;
mod witness;
