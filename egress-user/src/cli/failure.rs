//! How every command says that it failed: to people on standard error, with `--json` to programs on
//! standard output.
use std::error::Error;
use std::io::{self, Write};

use pipelock_receipts::findings::visible;
use serde_json::{Value, json};

use crate::neutralise::{harmless, harmless_json};

/// Version of the JSON of a failure; `docs/schema/verify.schema.json` describes it.
const JSON_VERSION: &str = "egress.failure.v1";

/// For whom a failure is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON object.
    Json,
    /// Lines of text.
    Text,
}

impl Form {
    /// What `--json` asks for.
    pub fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// Tells a failure with its causes and what can be done, and gives `status` back. Nothing is left
/// to do when the reader is gone.
pub fn tell(form: Form, error: &dyn Error, hint: Option<&str>, status: u8) -> u8 {
    match form {
        Form::Json => {
            let value = as_json(error, hint, status);
            drop(writeln!(io::stdout(), "{}", harmless_json(&value)));
        }
        Form::Text => {
            let text = harmless(&as_text(error, hint));
            drop(io::stderr().write_all(text.as_bytes()));
        }
    }
    status
}

fn causes(error: &dyn Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes
}

/// Each line with nothing in it that a terminal obeys: an error may name what the command chose.
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

/// The failure for programs.
pub fn as_json(error: &dyn Error, hint: Option<&str>, status: u8) -> Value {
    json!({
        "schema_version": JSON_VERSION,
        "error": error.to_string(),
        "caused_by": causes(error),
        "hint": hint,
        "exit": status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_is_told_with_its_causes_in_both_forms() {
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
