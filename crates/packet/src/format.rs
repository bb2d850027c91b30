//! The formats of the files that the supervisor writes. Each row and each document has one type, which the writer and
//! every reader use.
//!
//! Reading is lenient, so that files of earlier versions can be compared: unknown members are ignored, and absent
//! members have their default. Every value that was read can be serialized, so printing a packet never fails.
//! `deviations` finds values that this version never writes: it serializes the value that was read and compares the
//! result with the document.
#[macro_use]
mod define;

pub mod boundary;
pub mod changes;
mod check;
#[cfg(feature = "schema")]
mod describe;
mod row;
pub mod rows;
#[cfg(feature = "schema")]
pub mod schema;
#[cfg(test)]
mod tests;
mod value;
pub mod words;

pub(crate) use check::deviations;
pub use row::{Row, Tried};
pub(crate) use value::NOT_THIS_VERSION;
pub use value::{Exactly, Head, Hex16, Name, OctalMode, Sha256, Time};
pub use words::*;
