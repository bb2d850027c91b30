//! Compares a packet with what the caller of `egress verify` expects: identity, nonce, and age.
use std::time::Duration;

use audit_packet::grade::Grade;
use audit_packet::rules;
use audit_packet::{IDENTITY_FILE, PACKET_FILE};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::args::VerifyArgs;
use super::outcome::VerifyOutcome;

/// Largest accepted difference between the clocks of two machines.
const CLOCKS_APART: Duration = Duration::from_mins(10);

/// Compares the packet with the expectations, and adds a finding for each that is not met.
pub(super) fn check(outcome: &mut VerifyOutcome, args: &VerifyArgs, now: OffsetDateTime) {
    let mut unmet = Vec::new();
    // An identity counts only if the boundary's key signed it, because anybody can write the file.
    let is_signed = outcome.grade() > Grade::Unproven;
    if !is_signed && (!args.expect.is_empty() || args.nonce.is_some()) {
        let expected = String::from("a packet that binds its identity");
        unmet.push((
            &rules::IDENTITY_EXPECTED,
            expected,
            String::from("a packet without a signed identity"),
        ));
    }
    for (key, expected) in &args.expect {
        let found = outcome
            .identity
            .as_ref()
            .and_then(|identity| identity.value(key));
        if found != Some(expected) {
            let found = found.map_or_else(|| format!("no {key}"), |found| format!("{key} {found}"));
            unmet.push((
                &rules::IDENTITY_EXPECTED,
                format!("{key} {expected}"),
                found,
            ));
        }
    }
    if let Some(nonce) = &args.nonce {
        let identity = outcome.identity.as_ref();
        let found = identity.and_then(|identity| identity.nonce.as_deref());
        if found != Some(nonce) {
            let found = found.unwrap_or("no nonce").to_owned();
            unmet.push((&rules::IDENTITY_EXPECTED, format!("nonce {nonce}"), found));
        }
    }
    for (rule, expected, found) in unmet {
        outcome.add(rule, IDENTITY_FILE, expected, found);
    }
    check_age(outcome, args.max_age, now);
}

/// Checks that the packet is not from the future and not older than `max_age`. The time of a trusted time stamp takes
/// precedence over the time of the machine that made the packet.
fn check_age(outcome: &mut VerifyOutcome, max_age: Option<Duration>, now: OffsetDateTime) {
    let stamped = match &outcome.stamp {
        Some(Ok(stamp)) if stamp.is_trusted => Some(stamp.time_text()),
        _ => None,
    };
    let packet = outcome.packet.as_ref();
    let made = stamped.or_else(|| packet.map(|packet| packet.generated_at.clone()));
    let time = made
        .as_deref()
        .and_then(|made| OffsetDateTime::parse(made, &Rfc3339).ok());
    let expected = |most: Duration| format!("made within {} s before now", most.as_secs());
    let (Some(made), Some(time)) = (made, time) else {
        if let Some(most) = max_age {
            outcome.add(
                &rules::AGE,
                PACKET_FILE,
                expected(most),
                String::from("no time"),
            );
        }
        return;
    };
    let is_future =
        time > now.saturating_add(time::Duration::try_from(CLOCKS_APART).unwrap_or_default());
    let is_old =
        |most: Duration| time::Duration::try_from(most).is_ok_and(|most| now - time > most);
    match max_age {
        Some(most) if is_future || is_old(most) => {
            outcome.add(&rules::AGE, PACKET_FILE, expected(most), made);
        }
        None if is_future => {
            let before = String::from("a time before now");
            outcome.add(&rules::FUTURE, PACKET_FILE, before, made);
        }
        Some(_) | None => {}
    }
}
