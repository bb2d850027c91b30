//! The relay: carries each redirected connection to the mediator and reports its flow.
//!
//! Invariants:
//! - The relay requests a tunnel only after it has judged the client's first bytes.
//! - A name in SNI, Host, CONNECT, or absolute form is the name that the client connected to.
//! - No synthetic address reaches the mediator.
//! - Of the mediator's own paths, a client reaches only `/fetch` and `/ws`.
//! - Every request, every tunnel, and every denied connection produces exactly one report.
//!
//! The relay has no upstream resolver and no TLS keys, and it does not carry raw TCP.
//!
//! Start reading at [`serve`](serve()). [`main`] runs the relay process and calls `serve`.
#![forbid(unsafe_code)]

pub mod authority;
pub mod chunked;
pub mod dns;
pub mod frames;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
pub mod http_head;
pub mod names;
pub mod plan;
pub mod query;
pub mod sniff;

mod accept;
mod answer;
mod ask;
mod body;
mod buffers;
mod copy;
mod first_bytes;
mod forward;
mod guard;
mod handshake;
mod headers;
mod hello;
mod http;
mod limits;
mod orig_dst;
mod pool;
mod process;
mod proxy;
mod report;
mod seccomp;
mod serve;
mod state;
mod tls;
mod tunnel;
mod upload;
mod websocket;

pub use limits::Limits;
pub use orig_dst::{MappedSlots, SlotSource, SlotTable};
pub use plan::Config;
pub use process::{Confined, Control, StartError, confine, main};
pub use report::Outgoing;
pub use seccomp::digest as filter_digest;
pub use serve::{Sockets, serve};
