//! The library behind the `egress` binary.
//!
//! `receipt`, `packet`, `policy` and `report` are pure and build everywhere; the rest drives the
//! Linux kernel.
pub mod cli;
pub mod neutralise;
pub mod suggest;

#[cfg(target_os = "linux")]
pub mod bpf;
#[cfg(target_os = "linux")]
pub mod run;
