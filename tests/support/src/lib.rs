//! Test data for several crates. This crate uses no crate of the project, so that every crate of the project can use it
//! in tests.
#![forbid(unsafe_code)]
#![expect(
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "test data that cannot be made fails the test"
)]

pub mod client_hello;
pub mod measured;
pub mod mutate;
pub mod time_stamps;
