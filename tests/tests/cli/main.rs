//! The command line: arguments, output, and `egress policy`.
#![forbid(unsafe_code)]

mod hints;
mod input;
mod keygen;
mod output;
mod policy;
mod schema;
mod suggest;
