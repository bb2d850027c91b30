//! The step that verifies a packet. It reports at most one error and writes verdict and grade as outputs.
use anyhow::{bail, ensure};
use audit_packet::grade::Grade;
use audit_packet::identity;
use pipelock_receipts::report::EvidenceVerdict;

use super::inputs;
use super::outputs::Files;
use crate::cli::exit;
use crate::cli::verify::{VerifyArgs, VerifyOutcome, status, verify};

/// The outcome of the step.
pub(super) struct Verified {
    /// Why the step fails.
    pub(super) error: Option<String>,
    /// Exit status of the step.
    pub(super) status: u8,
}

/// Checks the packet that the inputs name.
///
/// # Errors
/// When an input is invalid, or a file that it names cannot be read.
pub(super) fn run(
    variable: impl Fn(&str) -> Option<String>,
    files: &Files,
) -> anyhow::Result<Verified> {
    let get = |name: &str| variable(&inputs::variable(name)).unwrap_or_default();
    let keys = lines(&get("keys"));
    ensure!(
        !keys.is_empty(),
        "input keys is empty; set it to the public key that you expect, from a source that the run cannot change"
    );
    let allow_prefix = inputs::one_of(get, "allow-unproven-end", &["true", "false"])? == "true";
    let args = VerifyArgs {
        path: get("packet-path").into(),
        keys,
        boundary_keys: lines(&get("boundary-keys")),
        require_grade: required_grade(&get("require-grade"))?,
        allow_prefix,
        expect: expected(get, &variable)?,
        timestamp_ca: inputs::paths(&get("timestamp-ca")),
        ..VerifyArgs::default()
    };
    let outcome = verify(&args)?;
    let status = status(&outcome, &args);
    files.output("verifier-verdict", outcome.verdict.as_str())?;
    files.output("grade", outcome.grade().as_str())?;
    Ok(Verified {
        error: (status != exit::SUCCESS).then(|| error(&outcome, &args, status)),
        status,
    })
}

/// Returns the identity that the packet must have: the pairs of the input `expect` and, with `same-run`, this workflow
/// run.
fn expected(
    get: impl Fn(&str) -> String,
    variable: &impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for line in lines(&get("expect")) {
        match identity::pair(&line) {
            Ok(pair) => pairs.push(pair),
            Err(error) => bail!("input expect has the line {line:?}: {error}"),
        }
    }
    if inputs::one_of(get, "same-run", &["true", "false"])? == "true" {
        for (key, name) in [
            ("repository", "GITHUB_REPOSITORY"),
            ("commit", "GITHUB_SHA"),
            ("run_id", "GITHUB_RUN_ID"),
        ] {
            let value = variable(name).filter(|value| !value.is_empty());
            if let Some(value) = value {
                pairs.push((key.to_owned(), value));
            }
        }
    }
    Ok(pairs)
}

/// Splits a text into its lines that are not empty.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

/// Returns the lowest grade that passes, if one is required.
fn required_grade(text: &str) -> anyhow::Result<Option<Grade>> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(grade) => Ok(Some(grade)),
        Err(accepted) => bail!("input require-grade is {text:?}; use {accepted}"),
    }
}

fn error(outcome: &VerifyOutcome, args: &VerifyArgs, status: u8) -> String {
    let graded = outcome.grade();
    if outcome.verdict == EvidenceVerdict::Valid
        && let Some(required) = args.require_grade.filter(|required| graded < *required)
    {
        let boundary = outcome.boundary.as_ref();
        let reasons = boundary.map_or(&[][..], |boundary| &boundary.graded.reasons);
        let why = reasons.first().map_or("", String::as_str);
        return format!(
            "the grade of the boundary is {graded}, but require-grade is {required}: {why}"
        );
    }
    if status == exit::END_UNPROVEN {
        return String::from(
            "the packet is valid, but does not prove that its end was not cut off; set allow-unproven-end \
             to accept it",
        );
    }
    let why = outcome
        .findings
        .first()
        .map_or("", |finding| finding.rule.problem);
    format!(
        "the packet does not pass verification ({}): {why}",
        outcome.verdict.as_str()
    )
}
