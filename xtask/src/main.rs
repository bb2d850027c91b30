//! Project tasks: one subcommand a file.
fn main() {}
