//! The library behind the `egress` binary.
//!
//! `receipt`, `packet`, `policy` and `report` are pure and build everywhere; the rest drives the
//! Linux kernel.
pub mod cli;
pub mod clock;
pub mod digest;
pub mod redact;
pub mod regular;
pub mod suggest;

#[cfg(target_os = "linux")]
pub mod apply;
#[cfg(target_os = "linux")]
pub mod boundary;
#[cfg(target_os = "linux")]
pub mod bpf;
#[cfg(target_os = "linux")]
pub mod child;
#[cfg(target_os = "linux")]
pub mod client_hello;
#[cfg(target_os = "linux")]
pub mod mediator;
#[cfg(target_os = "linux")]
pub mod probe;
#[cfg(target_os = "linux")]
pub mod read_on;
#[cfg(target_os = "linux")]
pub mod relay;
#[cfg(target_os = "linux")]
pub mod run;

#[cfg(test)]
#[path = "../tests/support/mutate.rs"]
mod mutate;
