//! Encodes, chains, and checks Pipelock receipts.
//!
//! [`recorder::Recorder`] turns events into complete JSON lines. [`check::check_evidence`] turns files into a
//! [`report::EvidenceReport`]. Neither the recorder nor the check reads a clock or opens a file. Only [`keys`] opens
//! files, which are key files.
#![forbid(unsafe_code)]
#![deny(clippy::as_conversions, clippy::arithmetic_side_effects)]

mod action;
pub mod canonical;
pub mod capsule;
pub mod chain;
pub mod check;
mod ed25519;
mod end;
mod entry;
mod evidence;
pub mod findings;
pub mod form;
mod input;
mod jcs;
pub mod json;
pub mod keys;
pub mod lines;
pub mod outer;
pub mod record;
pub mod recorder;
pub mod report;
pub mod rules;
mod schema;
pub mod session;
mod signatures;
mod time_text;

pub use time_text::is_rfc3339;
