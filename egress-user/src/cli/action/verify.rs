//! A step that checks a packet: one error at most, verdict and grade as its outputs.
use anyhow::{bail, ensure};
use audit_packet::grade::Grade;
use audit_packet::identity;
use pipelock_receipts::report::Verdict;

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
    let keys = lines(&get("keys"));
    ensure!(
        !keys.is_empty(),
        "input keys is empty; name the public key that you expect, from a place of your own"
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

/// What the packet's run must be: what the input names, and unless it is told otherwise the run of this very step.
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

/// What is written, one a line.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

/// The lowest grade that passes, if one is asked for.
fn required_grade(text: &str) -> anyhow::Result<Option<Grade>> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(grade) => Ok(Some(grade)),
        Err(accepted) => bail!("input require-grade is {text:?}; accepted is {accepted}"),
    }
}

fn error(outcome: &Outcome, args: &VerifyArgs, status: u8) -> String {
    let graded = outcome.grade();
    if outcome.verdict == Verdict::Valid
        && let Some(required) = args.require_grade.filter(|required| graded < *required)
    {
        let boundary = outcome.boundary.as_ref();
        let reasons = boundary.map_or(&[][..], |boundary| &boundary.graded.reasons);
        let why = reasons.first().map_or("", String::as_str);
        return format!("the boundary is graded {graded}, and require-grade is {required}: {why}");
    }
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
