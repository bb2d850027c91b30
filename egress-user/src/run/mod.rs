//! Owns the order of one run on the supervisor side.
//!
//! ```text
//! Plan --prepare--> Prepared --launch--> Running --supervise--> Collected --verify--> Verified --emit--> Emitted
//! ```
//!
//! Each step consumes the value of the one before, and only [`Emitted`] has an exit
//! status, so a success means that every step happened. What fails before the command
//! is started leaves nothing but its error; from then on a failure ends the command and is a reason
//! in the packet. Dropping any of the values ends the agent and removes what the run made; no other
//! path exists out of a phase.
//!
//! The whole way compiles:
//!
//! ```no_run
//! # use egress::run::{emit::Emitted, error::RunError, plan::Plan};
//! # fn whole(plan: Plan) -> Result<Emitted, RunError> {
//! plan.prepare()?.launch()?.supervise()?.verify().emit()
//! # }
//! ```
//!
//! A way that leaves out the boundary, the supervision or the check of the evidence does not:
//!
//! ```compile_fail
//! # use egress::run::{emit::Emitted, error::RunError, plan::Plan};
//! # fn no_boundary(plan: Plan) -> Result<Emitted, RunError> {
//! plan.launch()?.supervise()?.verify().emit()
//! # }
//! ```
//! ```compile_fail
//! # use egress::run::{emit::Emitted, error::RunError, plan::Plan};
//! # fn no_supervision(plan: Plan) -> Result<Emitted, RunError> {
//! plan.prepare()?.launch()?.verify().emit()
//! # }
//! ```
//! ```compile_fail
//! # use egress::run::{emit::Emitted, error::RunError, plan::Plan};
//! # fn no_check(plan: Plan) -> Result<Emitted, RunError> {
//! plan.prepare()?.launch()?.supervise()?.emit()
//! # }
//! ```
pub mod agent_fds;
pub mod agent_root;
mod capsule;
pub mod collect;
mod conclude;
mod digest;
pub mod doctor;
pub mod emit;
pub mod ending;
pub mod environment;
pub mod error;
pub mod flows;
mod heartbeat;
mod helper;
mod ingest;
mod init;
pub mod launch;
pub mod mediator;
pub mod notices;
pub mod packet_dir;
pub mod plan;
pub mod prepare;
pub mod probes;
mod reach;
pub mod record;
pub mod running;
mod stage;
pub mod stale_runs;
pub mod state;
pub mod stdio;
pub mod supervise;
pub mod timeline;
pub mod timestamp;
pub mod trust;
pub mod verify;
pub mod wall_clock;
mod workspace;

use emit::Emitted;
use error::RunError;
use plan::Plan;

/// Runs a plan to its end.
///
/// # Order
/// While this process has one thread and its signals are blocked (`supervise::block_signals`).
///
/// # Errors
/// When the machine or the boundary failed before the command ran, or the packet cannot be written.
pub fn execute(plan: Plan) -> Result<Emitted, RunError> {
    plan.prepare()?.launch()?.supervise()?.verify().emit()
}
