//! What people see.
#![expect(clippy::print_stderr, reason = "the one place that prints")]
use crate::run::emit::Emitted;

/// Prints an error with its causes.
pub fn error(error: &anyhow::Error, hint: Option<&str>) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  caused by: {cause}");
    }
    if let Some(hint) = hint {
        eprintln!("  hint: {hint}");
    }
}

/// Prints the result.
pub fn run_result(emitted: &Emitted, _json: bool) {
    eprintln!("{:#?}", emitted.verified);
}
