//! Checks evidence and packets with the functions of `egress verify`, in this process.
#![forbid(unsafe_code)]

mod capsule;
mod command_line;
mod corpora;
mod format_vectors;
#[cfg(target_os = "linux")]
mod hostile_bytes;
mod mutations;
mod pages;
mod recorder;
mod reference_verifiers;
mod report_page;
mod rules_page;
mod support;
mod timestamp;
mod verifiers;
#[cfg(target_os = "linux")]
mod verify_bounds;
mod verify_command;
