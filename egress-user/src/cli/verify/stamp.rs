//! Checks the time stamp of a packet against the attestation that it covers and the caller's authorities.
use audit_packet::TIMESTAMP_FILE;
use egress_timestamp::{self as timestamp, Problem, Roots, Stamp};
use pipelock_receipts::findings::visible;

use super::outcome::{Material, VerifyOutcome};

impl Material {
    /// Checks the token. Returns `None` if there is no token.
    fn check(&self, roots: Option<&Roots>) -> Option<Result<Stamp, Problem>> {
        let reply = match self.reply.as_ref()? {
            Ok(reply) => reply,
            Err(error) => return Some(Err(Problem::unreadable(error.as_str()))),
        };
        let Some(attestation) = &self.attestation else {
            return Some(Err(Problem::absent("a token without attestation.json")));
        };
        Some(timestamp::check(reply, attestation, None, roots))
    }
}

/// Checks the time stamp of an outcome. With `roots`, a missing or invalid time stamp is a finding.
pub(super) fn check(outcome: &mut VerifyOutcome, roots: Option<&Roots>) {
    let checked = outcome.material.as_ref().and_then(|one| one.check(roots));
    let checked = checked.map(|stamp| stamp.and_then(|stamp| fits(outcome, stamp)));
    // If `packet.json` is unusable, the outcome is already invalid, and no finding about the time stamp is added.
    if roots.is_some() && outcome.report.is_some() {
        let problem = match &checked {
            None => Some(Problem::absent("no time stamp")),
            Some(Err(problem)) => Some(problem.clone()),
            Some(Ok(_)) => None,
        };
        if let Some(Problem {
            rule,
            expected,
            found,
        }) = problem
        {
            outcome.add(rule, TIMESTAMP_FILE, expected, found);
        }
    }
    outcome.stamp = checked;
}

fn fits(outcome: &VerifyOutcome, stamp: Stamp) -> Result<Stamp, Problem> {
    if let Some(packet) = &outcome.packet {
        let made = packet.generated_at.as_str();
        let completed = packet.run.completed_at.as_deref().unwrap_or(made);
        timestamp::check_times(&stamp, completed, made)?;
    }
    Ok(stamp)
}

/// Returns the line about the time stamp for the text output.
pub(super) fn line(outcome: &VerifyOutcome) -> String {
    match &outcome.stamp {
        None => String::new(),
        Some(Ok(stamp)) => {
            let note = if stamp.is_trusted {
                ""
            } else {
                " (unverified, because --timestamp-ca is not given)"
            };
            let by = visible(&stamp.authority);
            format!("stamped:     {}, by {by}{note}\n", stamp.time_text())
        }
        Some(Err(problem)) => format!("stamped:     invalid: {problem}\n"),
    }
}
