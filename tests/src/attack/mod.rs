//! The attack suite, which has one script for each technique in `tests/attacks/`.
//!
//! A script is bash. The first comment of a script describes the technique. The next lines state how the technique is
//! judged:
//!
//! ```text
//! # ICMP through a raw socket.
//! # stops: privileges ebpf netns
//! # seen: hook=sock_create
//! # oracle: wire
//! # cases: v4 v6
//! attempt() { … }
//! ```
//!
//! `open` names addresses of the runner that the policy opens. Without `open`, the mediator denies all servers on the
//! runner.
//!
//! `attempt CASE` runs as the command. `attempt` then runs as the control without a boundary, where it must succeed.
//! The other functions are optional:
//!
//! - `stage CASE` prepares the runner before the attempt.
//! - `serve CASE` runs on the runner during the attempt.
//! - `wrap CASE` runs in the process that then executes the binary.
//! - `control CASE` replaces the control if the same attempt has no meaning without a boundary.
//! - `reached CASE` runs on the runner. `reached` decides whether the attempt succeeded if no oracle can decide that.
//!   The output of the run is in `$DIR/said`.
mod judge;
mod technique;

pub use judge::{Result, Verdict, run};
pub use technique::{Layer, Oracle, Technique, all};
