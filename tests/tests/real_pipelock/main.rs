//! The suite with a real Pipelock, of whatever version, named by `PIPELOCK_BIN`.
//!
//! `cargo xtask test --real-pipelock` runs it. What depends on the version is asked of the run itself:
//! `left_out` of `boundary.json` names the keys that this Pipelock does not know.
#![forbid(unsafe_code)]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test whose run cannot be looked at has failed"
)]

mod action;
mod carried;
mod clients;
mod config;
mod control_paths;
mod ending;
mod failures;
mod grade;
mod honest;
mod inspection;
mod interception;
mod lies;
mod load;
mod mutations;
mod plain_http;
mod posture;
mod relay;
mod support;
mod traffic;
mod witness;
