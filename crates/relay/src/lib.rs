//! The relay: carries the connections of the command to the mediator or denies them, and reports each flow.
//!
//! Invariants:
//! - The relay requests a tunnel only after it has judged the client's first bytes.
//! - On a redirected connection, a name in SNI, Host, or absolute form is the name that the client connected to. In a
//!   tunnel that the client requested with CONNECT, the SNI is the name in the CONNECT.
//! - The relay never passes a synthetic address to the mediator as a destination.
//! - A client reaches only `/fetch` and `/ws` among the mediator's own paths.
//! - Every request, every tunnel, and every denied connection produces exactly one report. A CONNECT and its tunnel
//!   share one report.
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
