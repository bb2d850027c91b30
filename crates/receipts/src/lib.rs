//! Defines, encodes, chains and checks Pipelock receipts. Pure: bytes in, verdict out.
//!
//! The writing side is [`recorder::Recorder`]: events in, complete JSON lines out. The checking
//! side is [`check::check_evidence`]: files in, a [`report::EvidenceReport`] out. Neither reads a clock nor
//! opens a file. [`keys`] is the one module that touches files, and only key files.
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
