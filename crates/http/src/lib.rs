//! What the relay and the mediator have in common.
#![forbid(unsafe_code)]

pub mod client_hello;
pub mod length;
pub mod read_on;
