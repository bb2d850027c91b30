//! The suite with a real Pipelock of any version, which `PIPELOCK_BIN` names.
//!
//! `cargo xtask test --real-pipelock` runs it. Tests find out from the run what this version can do: `left_out` in
//! `boundary.json` lists the keys that it does not know.
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
mod secret_urls;
mod support;
mod traffic;
mod witness;
