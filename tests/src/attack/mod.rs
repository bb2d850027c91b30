//! The attack suite: one script a technique, in `tests/attacks/`.
//!
//! A script is bash. Its first comment says what it is, the lines after it how it is judged:
//!
//! ```text
//! # ICMP by a raw socket.
//! # stops: privileges ebpf netns
//! # seen: hook=sock_create
//! # oracle: wire
//! # cases: v4 v6
//! attempt() { … }
//! ```
//!
//! `open` names addresses of the runner that the policy opens: without it the mediator lets nobody reach a server there.
//! `attempt CASE` is what the agent does, and then, without a boundary, the control: the same must get through
//! there. `stage CASE` prepares the runner before, `serve CASE` stays there beside it, `wrap CASE` goes before the run
//! in the same process, `control CASE` replaces the control where the same attempt means nothing without a boundary,
//! and `reached CASE`, run on the runner, decides where no oracle does: what the run said is in `$DIR/said`.
mod judge;
mod technique;

pub use judge::{Result, Verdict, run};
pub use technique::{Layer, Oracle, Technique, all};
