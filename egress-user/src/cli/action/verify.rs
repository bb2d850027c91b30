//! The step that verifies a packet. The step reports at most one error and writes verdict and grade as outputs.
use anyhow::{Context, bail, ensure};
use audit_packet::grade::Grade;
use audit_packet::identity;
use pipelock_receipts::report::EvidenceVerdict;

use super::inputs;
use super::outputs::Files;
use super::words::one_of;
use crate::cli::exit;
use crate::cli::verify::{VerifyArgs, VerifyOutcome, duration, status, verify};

/// Grades that do not depend on the boundary key. A step that requires one of these grades works without that key.
const ACCEPTS_ANY_SIGNER: [Grade; 3] = [Grade::Unpinned, Grade::Unproven, Grade::None];

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
/// Fails if an input is invalid, or if a file that the input names cannot be read.
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
    let required = required_grade(&get("require-grade"))?;
    let boundary_keys = lines(&get("boundary-keys"));
    ensure!(
        !boundary_keys.is_empty() || ACCEPTS_ANY_SIGNER.contains(&required),
        "input boundary-keys is empty, so an unknown key may have signed the measurements; set it to the public key \
         that you expect, or set require-grade to unpinned to accept any signer"
    );
    let allow_prefix = one_of(get, "allow-unproven-end", &["true", "false"])? == "true";
    let args = VerifyArgs {
        path: get("packet-path").into(),
        keys,
        boundary_keys,
        require_grade: Some(required),
        allow_prefix,
        expect: expected(get, &variable)?,
        nonce: optional(get, "nonce", identity::nonce)?,
        max_age: optional(get, "max-age", duration)?,
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
    if one_of(get, "same-run", &["true", "false"])? == "true" {
        for (key, name) in [
            ("repository", "GITHUB_REPOSITORY"),
            ("commit", "GITHUB_SHA"),
            ("run_id", "GITHUB_RUN_ID"),
        ] {
            let value = variable(name).filter(|value| !value.is_empty());
            let value = value.with_context(|| {
                format!(
                    "input same-run is true, but the variable {name} is not set, so this run is not known; run the step \
                     in GitHub Actions, or set same-run to false and name the run in the input expect"
                )
            })?;
            pairs.push((key.to_owned(), value));
        }
    }
    Ok(pairs)
}

/// Parses an input that may be empty.
fn optional<T>(
    get: impl Fn(&str) -> String,
    name: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> anyhow::Result<Option<T>> {
    let value = get(name);
    let value = value.trim();
    if value.is_empty() {
        return Ok(None);
    }
    match parse(value) {
        Ok(parsed) => Ok(Some(parsed)),
        Err(error) => bail!("input {name} is {value:?}: {error}"),
    }
}

/// Splits a text into lines, without the empty ones.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

/// Returns the lowest grade that passes.
fn required_grade(text: &str) -> anyhow::Result<Grade> {
    match text.parse() {
        Ok(grade) => Ok(grade),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Returns the error of the step for the inputs of a job in GitHub Actions with these changes. The text is empty if
    /// the step succeeds.
    fn refused(changes: &[(&str, &str)]) -> String {
        let mut values = BTreeMap::from([
            ("INPUT_PACKET_PATH", "/nowhere"),
            ("INPUT_KEYS", "0f"),
            ("INPUT_BOUNDARY_KEYS", "0f"),
            ("INPUT_REQUIRE_GRADE", "kernel_enforced"),
            ("INPUT_SAME_RUN", "true"),
            ("INPUT_ALLOW_UNPROVEN_END", "false"),
            ("GITHUB_REPOSITORY", "acme/widgets"),
            ("GITHUB_SHA", "0123"),
            ("GITHUB_RUN_ID", "7"),
        ]);
        values.extend(changes.iter().copied());
        let found = |name: &str| values.get(name).map(|value| (*value).to_owned());
        match run(found, &Files::named(|_| None)) {
            Ok(_) => String::new(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn nothing_is_required_less_because_a_value_is_missing() {
        // The control: without changes, all inputs are accepted up to the key, which is not valid.
        assert!(
            refused(&[]).contains("cannot use --key"),
            "{}",
            refused(&[])
        );
        for (name, named) in [
            ("INPUT_KEYS", "input keys is empty"),
            ("INPUT_BOUNDARY_KEYS", "input boundary-keys is empty"),
            ("INPUT_REQUIRE_GRADE", "input require-grade is \"\""),
            ("INPUT_SAME_RUN", "input same-run is \"\""),
            (
                "INPUT_ALLOW_UNPROVEN_END",
                "input allow-unproven-end is \"\"",
            ),
            ("GITHUB_REPOSITORY", "GITHUB_REPOSITORY is not set"),
            ("GITHUB_SHA", "GITHUB_SHA is not set"),
            ("GITHUB_RUN_ID", "GITHUB_RUN_ID is not set"),
        ] {
            let refused = refused(&[(name, "")]);
            assert!(refused.contains(named), "{name}: {refused}");
        }
        for (name, value, named) in [
            ("INPUT_NONCE", "no hex", "input nonce is \"no hex\""),
            ("INPUT_MAX_AGE", "5", "input max-age is \"5\""),
        ] {
            let refused = refused(&[(name, value)]);
            assert!(refused.contains(named), "{name}: {refused}");
        }
        let observed = refused(&[
            ("INPUT_BOUNDARY_KEYS", " \n"),
            ("INPUT_REQUIRE_GRADE", "kernel_observed"),
        ]);
        assert!(
            observed.contains("input boundary-keys is empty"),
            "{observed}"
        );
        for grade in ["unpinned", "unproven", "none"] {
            let stated = refused(&[("INPUT_BOUNDARY_KEYS", ""), ("INPUT_REQUIRE_GRADE", grade)]);
            assert!(stated.contains("cannot use --key"), "{grade}: {stated}");
        }
        let elsewhere = refused(&[("INPUT_SAME_RUN", "false"), ("GITHUB_SHA", "")]);
        assert!(elsewhere.contains("cannot use --key"), "{elsewhere}");
    }
}
