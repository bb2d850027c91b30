//! What was recorded: the counts of the kernel, of the relay, and of the mediator, next to what the origins received.
#![forbid(unsafe_code)]

mod carried;
mod honest;
mod origins;
mod witness;
