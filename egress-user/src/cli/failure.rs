//! Reports failures of every subcommand: as text on standard error, or with `--json` on standard output.
use std::error::Error;
use std::io::{self, Write};

use pipelock_receipts::findings::visible;
use serde_json::{Value, json};

use super::style;
use crate::causes::causes;
use crate::ci_commands::{harmless, harmless_json};

/// Version of the failure JSON, which `docs/schema/verify.schema.json` describes.
const JSON_VERSION: &str = "egress.failure.v1";

/// Output format of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON object.
    Json,
    /// Lines of text.
    Text,
}

impl Form {
    /// Returns the format for a value of `--json`.
    pub fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// Prints an error with its causes and the hint, and returns `status`. Write errors are ignored, because there is
/// nowhere else to report them.
pub fn report(form: Form, error: &dyn Error, hint: Option<&str>, status: u8) -> u8 {
    match form {
        Form::Json => {
            let value = as_json(error, hint, status);
            drop(writeln!(io::stdout(), "{}", harmless_json(&value)));
        }
        Form::Text => {
            let text = style::stderr(harmless(&as_text(error, hint)));
            drop(io::stderr().write_all(text.as_bytes()));
        }
    }
    status
}

/// Prints a warning on standard error. Write errors are ignored, because there is nowhere else to report them.
pub fn warning(text: &str) {
    drop(writeln!(
        io::stderr(),
        "egress: warning   {}",
        visible(text)
    ));
}

/// Escapes the control characters of each line, because an error may quote text that the command chose.
fn lines(text: &str) -> String {
    text.lines().map(visible).collect::<Vec<_>>().join("\n")
}

fn as_text(error: &dyn Error, hint: Option<&str>) -> String {
    let mut text = format!("error: {}\n", lines(&error.to_string()));
    for cause in causes(error) {
        text.push_str("  caused by: ");
        text.push_str(&lines(&cause));
        text.push('\n');
    }
    if let Some(hint) = hint {
        text.push_str("  hint: ");
        text.push_str(hint);
        text.push('\n');
    }
    text
}

/// Returns the failure as JSON.
pub fn as_json(error: &dyn Error, hint: Option<&str>, status: u8) -> Value {
    json!({
        "schema_version": JSON_VERSION,
        "error": error.to_string(),
        "caused_by": causes(error).collect::<Vec<_>>(),
        "hint": hint,
        "exit": status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_include_the_causes() {
        let error = anyhow::anyhow!("disk full").context("cannot write the packet");
        assert_eq!(
            as_text(error.as_ref(), Some("make room")),
            "error: cannot write the packet\n  caused by: disk full\n  hint: make room\n"
        );
        assert_eq!(
            as_json(error.as_ref(), None, 125),
            json!({
                "schema_version": "egress.failure.v1",
                "error": "cannot write the packet",
                "caused_by": ["disk full"],
                "hint": null,
                "exit": 125,
            })
        );
    }
}
