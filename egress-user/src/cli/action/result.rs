//! Turns the result of a run into the outcome of the step: at most one error, and the exit status.
use std::path::PathBuf;

use anyhow::ensure;
use audit_packet::{PACKET_FILE, SUMMARY_FILE};
use pipelock_receipts::check::MAX_DOCUMENT_BYTES;
use pipelock_receipts::findings::visible;
use pipelock_receipts::report::EvidenceVerdict;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::inputs::Inputs;
use super::start::Finished;
use crate::cli::exit;
use crate::cli::verify::{VerifyArgs, verify};
use crate::run::plan::Mode;

/// Maximum number of denied destinations that become annotations.
const SHOWN: usize = 5;

/// Advice for a step without a key.
const KEYLESS: &str = "no signing key was given, so a key of this run signed the packet. The record is consistent, but a \
    reviewer cannot identify the signer. To prove who signed, create two keys with `egress keygen`, store them as \
    secrets, and set signer-private-key-path and boundary-key-path";

/// The result of the step.
#[derive(Debug)]
pub(super) struct StepResult {
    /// The JSON result of `egress run`.
    run_result: Value,
    /// Why the packet on disk no longer passes the check that it passed at the end of the run.
    tampered: Option<String>,
}

impl StepResult {
    /// Takes the result of the run and checks the packet on disk once more.
    ///
    /// # Errors
    /// Fails if the run wrote no result.
    pub(super) fn read(finished: &Finished, inputs: &Inputs) -> anyhow::Result<Self> {
        ensure!(
            !finished.run_result.is_null(),
            "cannot start egress as root ({}); check that the runner has sudo without a password, and that \
             the binary runs on it",
            finished.status
        );
        let mut result = Self {
            run_result: finished.run_result.clone(),
            tampered: None,
        };
        if result.packet().is_some() {
            result.tampered = result.check(inputs).err().map(|error| format!("{error:#}"));
        }
        Ok(result)
    }

    fn text(&self, pointer: &str) -> &str {
        self.run_result
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    fn packet(&self) -> Option<PathBuf> {
        Some(self.text("/packet"))
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    }

    fn check(&self, inputs: &Inputs) -> anyhow::Result<()> {
        let Some(path) = self.packet() else {
            return Ok(());
        };
        let bytes = egress_files::read(&path.join(PACKET_FILE), MAX_DOCUMENT_BYTES)?;
        ensure!(
            hex::encode(Sha256::digest(&bytes)) == self.text("/packet_sha256"),
            "{PACKET_FILE} is not the file that the run wrote"
        );
        let signer = Some(self.text("/signer_key")).filter(|key| !key.is_empty());
        let key = inputs.public_key.as_deref().or(signer);
        let args = VerifyArgs {
            path,
            keys: key.map(str::to_owned).into_iter().collect(),
            timestamp_ca: if self.has_stamp() {
                inputs.timestamp_ca.clone()
            } else {
                Vec::new()
            },
            ..VerifyArgs::default()
        };
        let outcome = verify(&args)?;
        let is_same = outcome.verdict.as_str() == self.verdict();
        let is_sound = matches!(
            outcome.verdict,
            EvidenceVerdict::Valid | EvidenceVerdict::SelfConsistentOnly
        );
        let first = outcome
            .findings
            .first()
            .map_or("", |finding| finding.rule.problem);
        ensure!(
            is_same || !(is_sound || self.verdict() == EvidenceVerdict::Valid.as_str()),
            "its verdict is {} and no longer {}: {first}",
            outcome.verdict.as_str(),
            self.verdict()
        );
        Ok(())
    }

    fn verdict(&self) -> &str {
        match self.text("/verdict") {
            "" => EvidenceVerdict::Error.as_str(),
            verdict => verdict,
        }
    }

    /// Whether the evidence is valid. Without a key from the caller, the signer cannot be pinned, so consistent
    /// evidence is the best possible result of the step.
    fn is_valid(&self, inputs: &Inputs) -> bool {
        let is_keyless = inputs.private_key.is_none();
        self.tampered.is_none()
            // An audit has no receipts.
            && (inputs.mode == Mode::Audit
                || self.verdict() == EvidenceVerdict::Valid.as_str()
                || is_keyless && self.verdict() == EvidenceVerdict::SelfConsistentOnly.as_str())
    }

    /// Returns the notice for a step whose signer cannot be pinned.
    pub(super) fn keyless(&self, inputs: &Inputs) -> Option<&'static str> {
        let is_keyless = inputs.private_key.is_none() && inputs.mode == Mode::Enforce;
        (is_keyless && self.packet().is_some()).then_some(KEYLESS)
    }

    fn has_stamp(&self) -> bool {
        self.run_result
            .pointer("/timestamp")
            .is_some_and(|stamp| !stamp.is_null())
    }

    /// Returns whether the step requests a time stamp and the packet has none.
    fn lacks_stamp(&self, inputs: &Inputs) -> bool {
        inputs.timestamp_url.is_some() && !self.has_stamp()
    }

    fn number(&self, pointer: &str) -> Option<u64> {
        self.run_result.pointer(pointer).and_then(Value::as_u64)
    }

    /// Returns the error, its causes, and the hint if no packet was written.
    fn failure(&self) -> Option<String> {
        if self.packet().is_some() {
            return None;
        }
        let mut text = self.text("/error").to_owned();
        let causes = self
            .run_result
            .pointer("/caused_by")
            .and_then(Value::as_array);
        for cause in causes.into_iter().flatten().filter_map(Value::as_str) {
            text.push_str(": ");
            text.push_str(cause);
        }
        let hint = self.text("/hint");
        if !hint.is_empty() {
            text.push_str("; ");
            text.push_str(hint);
        }
        Some(text)
    }

    /// Returns the reason why the step fails, if it does. The order of the checks is that of [`Self::status`].
    pub(super) fn error(&self, inputs: &Inputs) -> Option<String> {
        if let Some(failure) = self.failure() {
            return Some(failure);
        }
        if let Some(what) = &self.tampered {
            return Some(format!("the packet was changed after the run: {what}"));
        }
        let status = self.exit_status();
        if status == exit::FAILED {
            let reasons = self
                .run_result
                .pointer("/incomplete")
                .and_then(Value::as_array);
            let reasons = reasons.into_iter().flatten().filter_map(Value::as_str);
            let reasons: Vec<&str> = reasons.collect();
            return Some(format!(
                "the machine, the boundary, or the mediator failed during the run: {}",
                reasons.join("; ")
            ));
        }
        if inputs.fail_on_verifier_error && !self.is_valid(inputs) {
            return Some(format!(
                "the verdict is {}, and fail-on-verifier-error is true; see verifier.txt in the packet",
                self.verdict()
            ));
        }
        if self.lacks_stamp(inputs) {
            let notices = self
                .run_result
                .pointer("/notices")
                .and_then(Value::as_array);
            let mut notices = notices.into_iter().flatten().filter_map(Value::as_str);
            // A run requests the time stamp last, so the last notice is about the time stamp.
            let why = notices.next_back();
            return Some(why.unwrap_or("the packet has no time stamp").to_owned());
        }
        match status {
            exit::TIMED_OUT => Some(String::from(
                "the script was ended because its timeout expired",
            )),
            _ => match self.script_status() {
                0 => None,
                status => Some(format!("the script exited with status {status}")),
            },
        }
    }

    fn exit_status(&self) -> u8 {
        let status = self.number("/exit_status").or_else(|| self.number("/exit"));
        status
            .and_then(|status| u8::try_from(status).ok())
            .unwrap_or(exit::FAILED)
    }

    fn script_status(&self) -> u8 {
        let status = self.number("/agent_exit_status");
        status
            .and_then(|status| u8::try_from(status).ok())
            .unwrap_or(0)
    }

    /// Returns the exit status of the step.
    pub(super) fn status(&self, inputs: &Inputs) -> u8 {
        let status = self.exit_status();
        if self.failure().is_some() || status == exit::FAILED {
            // A failed run must not pass, even if its result states status 0.
            return status.max(1);
        }
        if self.tampered.is_some() {
            return exit::EVIDENCE;
        }
        if inputs.fail_on_verifier_error && !self.is_valid(inputs) {
            return exit::INVALID;
        }
        if self.lacks_stamp(inputs) {
            return exit::EVIDENCE;
        }
        match status {
            exit::TIMED_OUT => status,
            _ => self.script_status(),
        }
    }

    /// Returns the names and values of the outputs.
    pub(super) fn outputs(&self) -> Vec<(&'static str, String)> {
        let Some(packet) = self.packet() else {
            return vec![
                (
                    "verifier-verdict",
                    EvidenceVerdict::Error.as_str().to_owned(),
                ),
                ("receipt-count", String::from("0")),
            ];
        };
        let verdict = match &self.tampered {
            Some(_) => EvidenceVerdict::Invalid.as_str(),
            None => self.verdict(),
        };
        let number = |pointer| self.number(pointer).unwrap_or(0).to_string();
        vec![
            ("audit-packet-path", packet.display().to_string()),
            ("receipt-count", number("/receipt_count")),
            ("verifier-verdict", verdict.to_owned()),
            ("grade", self.text("/boundary/grade").to_owned()),
            (
                "packet-digest",
                format!("sha256:{}", self.text("/packet_sha256")),
            ),
            ("denied-count", self.denied_count().to_string()),
            (
                "summary-path",
                packet.join(SUMMARY_FILE).display().to_string(),
            ),
        ]
    }

    fn denied_rows(&self) -> impl Iterator<Item = &Value> {
        self.run_result
            .pointer("/denied")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }

    fn denied_count(&self) -> u64 {
        self.denied_rows()
            .filter_map(|row| row.get("count")?.as_u64())
            .sum()
    }

    /// Returns the warnings about the first denied destinations.
    pub(super) fn denied(&self) -> Vec<String> {
        let rows = self.denied_rows();
        rows.take(SHOWN)
            .filter_map(|row| Some(row.get("text")?.as_str()?.to_owned()))
            .collect()
    }

    /// Returns the step's part of the job summary.
    pub(super) fn job_summary(&self) -> String {
        if let Some(failure) = self.failure() {
            let failure = visible(&failure).replace('`', "'");
            return format!("# Audit Packet\n\nNo packet was written: ` {failure} `\n");
        }
        let mut text = self.text("/summary").to_owned();
        if let Some(what) = &self.tampered {
            text.insert_str(
                0,
                &format!(
                    "> **The packet was changed after the run**: ` {} `\n\n",
                    visible(what).replace('`', "'")
                ),
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn inputs(fail: &str) -> Inputs {
        Inputs::read(|name| {
            Some(String::from(match name {
                "INPUT_SCRIPT_PATH" => "a.sh",
                "INPUT_MEDIATOR" => "builtin",
                "INPUT_DNS" => "synthetic",
                "INPUT_WORKSPACE" => "apply",
                "INPUT_DEBUG" => "false",
                "INPUT_FAIL_ON_VERIFIER_ERROR" => fail,
                "INPUT_AGENT_IDENTITY" | "INPUT_AUDIT_PACKET_DIR" | "INPUT_WORKING_DIRECTORY" => {
                    "x"
                }
                _ => return None,
            }))
        })
        .unwrap()
    }

    fn ended(verdict: &str, exit_status: u8, script: u8) -> StepResult {
        StepResult {
            run_result: json!({"packet": "/p", "verdict": verdict, "exit_status": exit_status,
                         "agent_exit_status": script}),
            tampered: None,
        }
    }

    #[test]
    fn status_follows_verdict_then_script() {
        let (strict, lax) = (inputs("true"), inputs("false"));
        for (result, with_strict, with_lax) in [
            (ended("valid", 0, 0), 0, 0),
            (ended("valid", 7, 7), 7, 7),
            (ended("self_consistent_only", 0, 0), 0, 0),
            (ended("self_consistent_only", 3, 3), 3, 3),
            (ended("error", 123, 0), 1, 0),
            (ended("invalid", 123, 5), 1, 5),
            (ended("valid", 124, 0), 124, 124),
            (ended("valid", 125, 0), 125, 125),
        ] {
            assert_eq!(result.status(&strict), with_strict, "{result:?}");
            assert_eq!(result.status(&lax), with_lax, "{result:?}");
            assert_eq!(
                result.error(&strict).is_some(),
                with_strict != 0,
                "{result:?}"
            );
            assert_eq!(result.error(&lax).is_some(), with_lax != 0, "{result:?}");
        }
    }

    #[test]
    fn a_step_with_a_key_must_be_valid_under_it() {
        let mut strict = inputs("true");
        let result = ended("self_consistent_only", 0, 0);
        assert!(result.keyless(&strict).is_some() && result.error(&strict).is_none());
        strict.private_key = Some("signer.key".into());
        assert_eq!(result.status(&strict), exit::INVALID);
        let error = result.error(&strict).unwrap();
        assert!(error.contains("self_consistent_only"), "{error}");
        assert!(result.keyless(&strict).is_none());
    }

    #[test]
    fn a_step_that_requests_a_time_stamp_fails_without_one() {
        let mut asks = inputs("true");
        asks.timestamp_url = Some(String::from("https://tsa.test/"));
        let mut result = ended("valid", 123, 0);
        result.run_result["notices"] =
            json!(["other", "the packet has no time stamp from tsa.test: x"]);
        assert_eq!(result.status(&asks), exit::EVIDENCE);
        let error = result.error(&asks).unwrap();
        assert_eq!(error, "the packet has no time stamp from tsa.test: x");
        result.run_result["timestamp"] = json!({"time": "2026-11-29T00:00:00Z"});
        assert_eq!((result.status(&asks), result.error(&asks)), (0, None));
    }

    /// Claims: action-packet
    #[test]
    fn a_changed_packet_fails_with_any_inputs() {
        let mut result = ended("valid", 0, 0);
        result.tampered = Some(String::from("x"));
        assert_eq!(result.status(&inputs("false")), exit::EVIDENCE);
        assert!(
            result
                .outputs()
                .contains(&("verifier-verdict", String::from("invalid")))
        );
    }

    /// Claims: action-errors
    #[test]
    fn no_packet_is_one_error_with_causes_and_advice() {
        let result = StepResult {
            run_result: json!({"error": "a", "caused_by": ["b"], "hint": "c", "exit": 125}),
            tampered: None,
        };
        assert_eq!(result.error(&inputs("true")).unwrap(), "a: b; c");
        assert_eq!(result.status(&inputs("false")), 125);
        assert!(
            result
                .outputs()
                .contains(&("receipt-count", String::from("0")))
        );
    }
}
