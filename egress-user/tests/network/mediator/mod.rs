//! The built-in mediator in this process, against origins on loopback; and its process.
mod connect;
mod failure;
mod forward;
mod load;
mod process;
mod stop;
pub(crate) mod support;
mod websocket;
