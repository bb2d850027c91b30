//! Builds and checks Audit Packets. Each document and each line of a packet has a maximum length.
//!
//! [`build::build`] builds the model of a packet, [`check::check_packet`] checks its bytes, and [`flows`] chains and
//! checks the flow log. The caller reads and writes the files.
#![forbid(unsafe_code)]
#![deny(clippy::as_conversions, clippy::arithmetic_side_effects)]

pub mod activity;
mod archive;
pub mod attest;
pub mod boundary;
pub mod build;
mod changed;
mod changes_file;
pub mod check;
mod clock;
mod continuity;
mod counted;
pub mod denied;
mod display;
pub mod flows;
pub mod format;
pub mod grade;
mod headline;
pub mod held_back;
pub mod hint;
pub mod html;
pub mod identity;
mod inline;
mod joined;
mod listing;
pub mod model;
mod names;
mod noted;
mod policy_file;
pub mod posture;
pub mod reasons;
pub mod reconcile;
pub mod rendered;
mod repeated;
pub mod required;
pub mod rules;
pub mod shown;
mod statements;
pub mod stream;
pub mod summary;
pub mod verifier_text;

pub use names::*;
use serde::Serialize;

/// Returns a value as JSON, for a finding.
fn as_stated(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::Null) => String::from("nothing"),
        Ok(serde_json::Value::String(text)) => text,
        Ok(value) => value.to_string(),
        Err(error) => error.to_string(),
    }
}
