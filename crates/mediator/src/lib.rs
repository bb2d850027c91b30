//! The built-in mediator: a forward proxy with an allow-list and a signed receipt chain.
//!
//! The mediator judges the name of a destination before it resolves the name. The mediator judges all addresses of a
//! name before it connects to one of them. A durable receipt records an allowed request before the mediator connects.
//! The receipt of a denial is written before the client receives the answer. If a receipt cannot be written, no further
//! request is served. The mediator does not scan content, follow redirects, cache, or terminate TLS.
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
pub use state::{BuiltinMediator, Capacity, Secrets};
