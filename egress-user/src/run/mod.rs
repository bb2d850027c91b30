//! Owns the order of one run on the supervisor side.
//!
//! ```text
//! Plan --prepare--> Prepared --launch--> Running --supervise--> Collected --verify--> Verified --emit--> Emitted
//! ```
//!
//! Each step consumes the value of the one before, and only [`Emitted`] has an exit
//! status, so a success means that every step happened. A step that fails leaves what was collected so
//! far, and the packet says where it stopped. Dropping any of the values ends the agent and removes
//! what the run made; no other path exists out of a phase.
pub mod collect;
pub mod doctor;
pub mod emit;
pub mod environment;
pub mod error;
pub mod flows;
pub mod launch;
pub mod leavings;
pub mod plan;
pub mod prepare;
pub mod record;
pub mod state;
pub mod stdio;
pub mod supervise;
pub mod timeline;
pub mod verify;

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
