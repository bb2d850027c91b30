//! What tests of several crates make. It uses no crate of the project, so that each may use it in its own tests.
#![forbid(unsafe_code)]
#![expect(
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "what cannot be made fails the test on the spot"
)]

pub mod client_hello;
pub mod measured;
pub mod mutate;
pub mod time_stamps;
