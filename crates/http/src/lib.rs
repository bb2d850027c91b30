//! HTTP and TLS code that the relay and the built-in mediator share.
#![forbid(unsafe_code)]

pub mod client_hello;
pub mod headers;
pub mod length;
pub mod read_on;
