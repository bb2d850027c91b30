//! A step that checks a packet: one error at most, and the verdict as its output.
use anyhow::ensure;

use super::inputs;
use super::outputs::Files;
use crate::cli::exit;
use crate::cli::verify::{Outcome, VerifyArgs, status, verify};

/// What the step came to.
pub(super) struct Verified {
    /// Why it fails.
    pub(super) error: Option<String>,
    /// Its exit status.
    pub(super) status: u8,
}

/// Checks the packet that the inputs name.
///
/// # Errors
/// When an input is wrong, or what it names cannot be read.
pub(super) fn run(
    variable: impl Fn(&str) -> Option<String>,
    files: &Files,
) -> anyhow::Result<Verified> {
    let get = |name: &str| variable(&inputs::variable(name)).unwrap_or_default();
    let keys: Vec<String> = get("keys")
        .lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    ensure!(
        !keys.is_empty(),
        "input keys is empty; name the public key that you expect, from a place of your own"
    );
    let allow_prefix = inputs::one_of(get, "allow-unproven-end", &["true", "false"])? == "true";
    let args = VerifyArgs {
        path: get("packet-path").into(),
        keys,
        allow_prefix,
        ..VerifyArgs::default()
    };
    let outcome = verify(&args)?;
    let status = status(&outcome, &args);
    files.output("verifier-verdict", outcome.verdict.as_str())?;
    Ok(Verified {
        error: (status != exit::SUCCESS).then(|| error(&outcome, status)),
        status,
    })
}

fn error(outcome: &Outcome, status: u8) -> String {
    if status == exit::END_UNPROVEN {
        return String::from(
            "the packet is valid as far as it goes, and nothing proves that its end was not cut off; \
             set allow-unproven-end if that is enough",
        );
    }
    let why = outcome
        .findings
        .first()
        .map_or("", |finding| finding.rule.says);
    format!(
        "the packet does not verify ({}): {why}",
        outcome.verdict.as_str()
    )
}
