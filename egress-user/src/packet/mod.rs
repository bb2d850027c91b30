//! Puts the evidence of a run into one Audit Packet and reads it back; every length is bounded.
#[cfg(target_os = "linux")]
pub mod dir;
pub mod flows;
