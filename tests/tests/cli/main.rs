//! The command line: arguments, output, and `egress policy suggest`.
#![forbid(unsafe_code)]

mod input;
mod output;
mod suggest;
