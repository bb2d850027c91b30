//! The Audit Packet and its verifiers: they detect every change and every lie, and accept honest packets.
#![forbid(unsafe_code)]

mod extra_files;
mod grade;
mod lies;
mod mutations;
mod report;
mod second_verifier;
mod timestamp;
mod verify_schema;
mod whole_run;
