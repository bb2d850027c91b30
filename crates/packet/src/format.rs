//! The formats of the files that the supervisor writes: one type for each row and each document, for the writer and for
//! every reader.
//!
//! A type reads leniently: an unknown member is ignored, and an absent one has its default, so that files of earlier
//! versions can still be compared. It writes strictly: a value that this version never writes has no form, and
//! `deviations` finds it by writing again what was read.
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
