//! The built-in mediator with origins on loopback, in this process and in its own process.
mod connect;
mod failure;
mod forward;
mod load;
mod process;
mod stop;
pub(crate) mod support;
mod websocket;
