//! The formats of the files that the supervisor writes. Each row and each document has one type, which the writer and
//! every reader use.
//!
//! Reading is lenient, so that files of earlier versions can be compared: unknown members are
//! ignored, and absent members have their default. Writing is strict: a value that this version
//! never writes cannot be serialized. `deviations` finds such values by serializing the value that
//! was read.
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
mod value;
pub mod words;

pub(crate) use check::deviations;
pub use row::{Row, Tried};
pub use value::{Exactly, Head, Hex16, Name, OctalMode, Sha256, Time};
pub use words::*;
