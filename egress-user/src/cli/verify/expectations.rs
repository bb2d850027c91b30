//! Compares a packet with what the caller of `egress verify` expects: identity, nonce, and age.
use std::time::Duration;

use audit_packet::rules;
use audit_packet::{IDENTITY_FILE, PACKET_FILE};
use pipelock_receipts::report::EvidenceVerdict;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::args::VerifyArgs;
use super::outcome::VerifyOutcome;

/// Largest accepted difference between the clocks of two machines.
const CLOCKS_APART: Duration = Duration::from_mins(10);

/// Compares the packet with the expectations, and adds a finding for each that is not met.
pub(super) fn check(outcome: &mut VerifyOutcome, args: &VerifyArgs, now: OffsetDateTime) {
    check_identity(outcome, args);
    check_age(outcome, args.max_age, now);
}

/// Compares the identity with `--expect` and `--nonce`.
fn check_identity(outcome: &mut VerifyOutcome, args: &VerifyArgs) {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (key, expected) in &args.expect {
        wanted.push((key, expected));
    }
    let nonce = args.nonce.as_deref().map(|nonce| ("nonce", nonce));
    if wanted.is_empty() && nonce.is_none() {
        return;
    }
    let mut unmet = Vec::new();
    let identity = outcome.identity.as_ref();
    // No finding is added if the identity is missing, because each comparison then fails, or if another error may be
    // the reason why the identity is not signed.
    if identity.is_some() && !is_identity_signed(outcome) && !is_invalid(outcome) {
        unmet.push((
            &rules::IDENTITY_UNSIGNED,
            String::from("the digest of the file under a pinned key"),
            String::from("a file that no pinned key signed"),
        ));
    }
    let values = wanted.into_iter().map(|(key, expected)| {
        let found = identity.and_then(|identity| identity.value(key));
        (key, expected, found)
    });
    let nonce = nonce.map(|(key, expected)| {
        let found = identity.and_then(|identity| identity.nonce.as_deref());
        (key, expected, found)
    });
    for (key, expected, found) in values.chain(nonce) {
        if found != Some(expected) {
            let found = found.map_or_else(|| format!("no {key}"), |found| format!("{key} {found}"));
            unmet.push((
                &rules::IDENTITY_EXPECTED,
                format!("{key} {expected}"),
                found,
            ));
        }
    }
    for (rule, expected, found) in unmet {
        outcome.add(rule, IDENTITY_FILE, expected, found);
    }
}

fn is_identity_signed(outcome: &VerifyOutcome) -> bool {
    let boundary = outcome.boundary.as_ref();
    boundary.is_some_and(|boundary| boundary.is_identity_signed)
}

fn is_invalid(outcome: &VerifyOutcome) -> bool {
    outcome.verdict == EvidenceVerdict::Invalid
}

/// Checks that the time of the packet is not in the future, and that the packet is not older than `max_age`.
fn check_age(outcome: &mut VerifyOutcome, max_age: Option<Duration>, now: OffsetDateTime) {
    let stated = outcome.packet.as_ref();
    let stated = stated.map(|packet| packet.generated_at.clone());
    let future = now.saturating_add(time::Duration::try_from(CLOCKS_APART).unwrap_or_default());
    let is_future = |text: &str| read(text).is_some_and(|time| time > future);
    let Some(most) = max_age else {
        if let Some(stated) = stated.filter(|stated| is_future(stated)) {
            let before = String::from("a time before now");
            outcome.add(&rules::FUTURE, PACKET_FILE, before, stated);
        }
        return;
    };
    let is_old = |text: &str| {
        let most = time::Duration::try_from(most).ok();
        read(text).is_none_or(|time| most.is_some_and(|most| now - time > most))
    };
    let signed = signed_time(outcome);
    let found = match (&stated, &signed) {
        (Some(stated), Some(_)) if is_future(stated) => stated.clone(),
        (_, Some(signed)) if is_future(signed) || is_old(signed) => signed.clone(),
        (_, Some(_)) => return,
        // An earlier error is the cause, so no second finding is added.
        (_, None) if is_invalid(outcome) => return,
        (Some(_), None) => String::from("no time that a pinned key signed"),
        (None, None) => String::from("no packet"),
    };
    let expected = format!("made within the last {} s", most.as_secs());
    outcome.add(&rules::AGE, PACKET_FILE, expected, found);
}

/// Returns the packet's time, if a pinned key signed this time. If the boundary key is pinned, this is the time in
/// `packet.json`, or the time of a trusted time stamp. If only the key of the receipts is pinned, it is the time of the
/// last receipt.
fn signed_time(outcome: &VerifyOutcome) -> Option<String> {
    let (packet, boundary) = (outcome.packet.as_ref()?, outcome.boundary.as_ref()?);
    if boundary.is_attested {
        return Some(match &outcome.stamp {
            Some(Ok(stamp)) if stamp.is_trusted => stamp.time_text(),
            _ => packet.generated_at.clone(),
        });
    }
    let report = outcome.report.as_ref()?;
    let is_signed = report.verdict == EvidenceVerdict::Valid && !report.last_time.is_empty();
    is_signed.then(|| report.last_time.clone())
}

fn read(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}
