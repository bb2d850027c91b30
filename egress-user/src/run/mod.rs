//! Owns the order of one run on the supervisor side.
//!
//! ```text
//! Plan --prepare--> Prepared --launch--> Running --supervise--> Ended --collect--> Collected --verify--> Verified --emit--> Emitted
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
//! plan.prepare()?.launch()?.supervise()?.collect().verify().emit()
//! # }
//! ```
//!
//! A way that leaves out the boundary, the supervision or the check of the evidence does not:
//!
//! ```compile_fail
//! # use egress::run::{emit::Emitted, error::RunError, plan::Plan};
//! # fn no_boundary(plan: Plan) -> Result<Emitted, RunError> {
//! plan.launch()?.supervise()?.collect().verify().emit()
//! # }
//! ```
//! ```compile_fail
//! # use egress::run::{emit::Emitted, error::RunError, plan::Plan};
//! # fn no_supervision(plan: Plan) -> Result<Emitted, RunError> {
//! plan.prepare()?.launch()?.collect().verify().emit()
//! # }
//! ```
//! ```compile_fail
//! # use egress::run::{emit::Emitted, error::RunError, plan::Plan};
//! # fn no_check(plan: Plan) -> Result<Emitted, RunError> {
//! plan.prepare()?.launch()?.supervise()?.collect().emit()
//! # }
//! ```
mod agent_fds;
mod agent_root;
mod boundary;
mod capsule;
pub mod collect;
mod conclude;
mod context;
mod digest;
pub mod doctor;
pub mod emit;
pub mod ending;
mod enforcement;
pub mod environment;
pub mod error;
mod facts;
mod flows;
mod heartbeat;
mod helper;
mod init;
pub mod launch;
mod mediator;
mod notices;
pub mod packet_dir;
pub mod plan;
pub mod prepare;
pub mod probes;
mod reach;
mod record;
mod relay_reports;
mod stage;
pub mod stale_runs;
mod state;
mod stdio;
pub mod supervise;
pub mod timeline;
pub mod timestamp;
mod trust;
pub mod verify;
mod wall_clock;
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
    plan.prepare()?
        .launch()?
        .supervise()?
        .collect()
        .verify()
        .emit()
}
