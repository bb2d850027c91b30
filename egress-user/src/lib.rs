//! The library behind the `egress` binary.
//!
//! `run` and `bpf` need Linux. The other modules, including `egress verify`, also build on macOS and Windows.
mod causes;
pub mod ci_commands;
pub mod cli;
pub mod suggest;
mod variable;

#[cfg(target_os = "linux")]
pub mod bpf;
#[cfg(target_os = "linux")]
pub mod run;
