//! The built-in mediator in this process, against origins on loopback.
#![cfg(target_os = "linux")]
#![expect(unreachable_pub, reason = "the support module has one user, this test")]
mod connect;
mod failure;
mod forward;
mod load;
mod stop;
mod support;
mod websocket;
