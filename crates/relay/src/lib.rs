//! Carries one redirected connection to the mediator and reports what became of it.
//!
//! Invariants: no tunnel is asked for before the client's first bytes were judged; a name in SNI,
//! Host, CONNECT or absolute form is the one that was connected to; no synthetic address leaves; the
//! mediator's own paths are out of reach but for `/fetch` and `/ws`; every request, tunnel and
//! refused connection makes exactly one report.
//!
//! Deliberately absent: an upstream resolver, TLS keys, a way to carry raw TCP.
//!
//! Start at [`serve`](serve()) for the order of things; [`main`] is the process around it.
#![forbid(unsafe_code)]

pub mod authority;
pub mod chunked;
pub mod dns;
pub mod frames;
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
mod first;
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
pub use process::{Confined, Control, StartError, confine, main};
pub use seccomp::digest as filter_digest;
pub use serve::{Sockets, serve};
pub use state::Config;
