//! Compares the counts of the kernel, the relay, and the mediator with the bytes that the origins received.
#![forbid(unsafe_code)]

mod carried;
mod honest;
mod origins;
mod secret_urls;
mod witness;
