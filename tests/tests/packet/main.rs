//! The Audit Packet and its verifiers: every change and every lie is found, and an honest packet is not.
#![forbid(unsafe_code)]

mod grade;
mod lies;
mod mutations;
mod second_verifier;
mod timestamp;
mod verify_schema;
mod whole_run;
