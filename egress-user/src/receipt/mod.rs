//! Defines, encodes, chains and checks Pipelock receipts. Pure: bytes in, verdict out.
//!
//! The writing side is [`recorder::Recorder`]: events in, complete JSON lines out. It reads no
//! clock and opens no file; the caller passes times and identifiers in and writes the bytes.
//! [`keys`] is the one module that touches files, and only key files.
#![forbid(unsafe_code)]
#![deny(clippy::as_conversions, clippy::arithmetic_side_effects)]

pub mod canonical;
pub mod keys;
pub mod record;
pub mod recorder;
