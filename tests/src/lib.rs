//! Support for the privileged end-to-end tests: a world of two network namespaces.
//!
//! `runner` is the machine on which `egress` runs, and `internet` contains all peers. One wire connects the two
//! namespaces, and a counter at the far end of the wire counts the network packets that left the runner. No packet of a
//! test leaves these namespaces. A denial test reads the counter twice: an attempt without the boundary must increase
//! the count, and the same attempt with the boundary must not increase it.
//!
//! ```no_run
//! let world = egress_tests::World::new();
//! let run = world
//!     .egress()
//!     .allow(&["allowed.test"])
//!     .script("curl -sS http://allowed.test/")
//!     .run();
//! assert_eq!(run.status, Some(0), "{run}");
//! ```
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test world that cannot be made, or a claim that does not hold, fails the test on the spot"
)]

pub mod aftermath;
pub mod agents;
pub mod attack;
pub mod carried;
mod census;
pub mod changes;
pub mod clients;
pub mod clock;
pub mod closed_home;
mod command;
mod denial;
pub mod evidence;
#[cfg(feature = "schemas")]
pub mod formats;
mod hold_at_exec;
pub mod honest;
mod internet;
mod judged;
#[cfg(feature = "liar")]
pub mod liar;
mod links;
#[cfg(feature = "liar")]
pub mod mutation;
mod namespaces;
mod processes;
mod record;
mod require;
pub mod retry;
mod run;
pub mod screen;
pub mod secret_urls;
mod topology;
#[cfg(feature = "liar")]
pub mod trial;
mod wire;
pub mod workflow;
mod world;

pub use census::Census;
pub use command::{Output, Running};
pub use denial::Trace;
pub use hold_at_exec::HoldAtExec;
pub use internet::journal::{Arrival, Query, Request};
pub use internet::response::pattern_sha256;
pub use judged::Judged;
pub use processes::{Process, wait_until};
pub use require::installed;
pub use run::{Run, RunOutput, binary};
pub use topology::{Addresses, INTERNET, RUNNER_V4, RUNNER_V6};
pub use wire::{Packet, Snapshot, Wire};
pub use world::{Builder, World};
