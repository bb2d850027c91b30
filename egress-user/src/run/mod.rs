//! Defines the order of the supervisor's steps in one run.
//!
//! ```text
//! Plan --prepare--> Prepared --launch--> Running --supervise--> Ended --collect--> Collected --verify--> Verified --emit--> Emitted
//! ```
//!
//! Each step consumes the value that the previous step produced, and only the previous step can set the fields of this
//! value. Only [`Emitted`] has the result of the run, so success means that every step was taken.
//!
//! A failure before the command starts leaves only its error and no packet. A later failure ends the command, and the
//! packet states it as a reason. If a value is dropped, the command ends and everything that the run created is
//! removed.
//!
//! The whole order compiles:
//!
//! ```no_run
//! # use egress::run::{emit::Emitted, error::RunError, plan::Plan};
//! # fn whole(plan: Plan) -> Result<Emitted, RunError> {
//! plan.prepare()?.launch()?.supervise()?.collect().verify().emit()
//! # }
//! ```
//!
//! An order without the boundary, the supervision, or the check of the evidence does not compile:
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
mod cache;
mod capsule;
pub mod closed_home;
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
pub mod notice;
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
mod streams;
pub mod supervise;
mod terminal;
pub mod timeline;
pub mod timestamp;
mod trust;
pub mod umask;
pub mod verify;
mod wall_clock;
mod workspace;

use emit::Emitted;
use error::RunError;
use plan::Plan;

/// Executes a plan.
///
/// # Order
/// Call this while this process has one thread, after `supervise::block_signals`.
///
/// # Errors
/// Fails if the machine or the boundary fails before the command runs, or the packet cannot be written.
pub fn execute(plan: Plan) -> Result<Emitted, RunError> {
    plan.prepare()?
        .launch()?
        .supervise()?
        .collect()
        .verify()
        .emit()
}
