//! The built-in mediator: a forward proxy with an allow-list and a signed receipt chain.
//!
//! A destination is judged by its name before the name is resolved, by all of its addresses before
//! one is dialled, and a durable receipt says so before the first packet leaves. Refusals have
//! their receipt before the client hears of them. When a receipt cannot be written, nobody is
//! served any more. Deliberately absent: content scanning, redirects, caches, TLS of its own.
mod admit;
mod body;
mod copy;
mod dial;
mod forward;
mod gauge;
mod headers;
mod health;
mod hello;
mod judge;
mod meter;
mod phase;
pub mod plan;
mod process;
pub mod recorder;
mod reply;
pub mod resolve;
mod server;
mod state;
pub mod store;
mod target;
mod tunnel;
mod websocket;

pub use process::main;
pub use state::{Capacity, Mediator, Secrets};
