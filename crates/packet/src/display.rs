//! Compares the optional members of `packet.json` that repeat the receipts.
use std::collections::BTreeSet;
use std::time::Duration;

use pipelock_receipts::findings::Findings;
use pipelock_receipts::report::EvidenceReport;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::model::Packet;
use super::{as_stated, rules};

/// The actor of receipts that a Pipelock writes about itself.
const MEDIATOR: &str = "pipelock";

/// Compares transports, layers, domains, policy hashes, and the agent with the receipts.
pub(super) fn check(packet: &Packet, report: &EvidenceReport, findings: &mut Findings) {
    lists(packet, report, findings);
    let run = &packet.run;
    let actors = report.counts.actors.keys().map(String::as_str);
    let agents: Vec<&str> = actors.filter(|actor| *actor != MEDIATOR).collect();
    if !agents.is_empty() && !agents.contains(&run.agent_identity.as_str()) {
        let found = run.agent_identity.as_str();
        findings.add(&rules::IDENTITY, rules::here(), agents.join(" "), found);
    }
}

fn lists(packet: &Packet, report: &EvidenceReport, findings: &mut Findings) {
    let summary = &packet.summary;
    let counts = &report.counts;
    let mut differs = |expected: String, stated: String| {
        findings.add(&rules::DISPLAY, rules::here(), expected, stated);
    };
    if let Some(transports) = &summary.transports
        && *transports != counts.transports
    {
        let expected = format!("summary.transports {}", as_stated(&counts.transports));
        differs(expected, as_stated(transports));
    }
    if let Some(layers) = &summary.layers
        && *layers != counts.layers
    {
        let expected = format!("summary.layers {}", as_stated(&counts.layers));
        differs(expected, as_stated(layers));
    }
    if let Some(domains) = &summary.domains_touched
        && !domains.iter().eq(counts.domains.iter())
    {
        let actual: Vec<&str> = counts.domains.iter().map(String::as_str).collect();
        let expected = format!("summary.domains_touched {}", actual.join(" "));
        differs(expected, domains.join(" "));
    }
    let bare = |hash: &String| hash.strip_prefix("sha256:").unwrap_or(hash).to_owned();
    let stated: BTreeSet<String> = packet.policy.policy_hashes.iter().map(bare).collect();
    let actual: BTreeSet<String> = counts.policy_hashes.iter().map(bare).collect();
    if stated != actual {
        let actual: Vec<String> = actual.into_iter().collect();
        let expected = format!("policy.policy_hashes {}", actual.join(" "));
        differs(expected, packet.policy.policy_hashes.join(" "));
    }
}

/// Checks that the times of start, end, and packet are valid and in this order. `clock_set` is the
/// amount by which the system clock was set during the run.
pub(super) fn times(packet: &Packet, clock_set: Duration, findings: &mut Findings) {
    let run = &packet.run;
    let order = [
        Some(run.started_at.as_str()),
        run.completed_at.as_deref(),
        Some(packet.generated_at.as_str()),
    ];
    // Some writers omit fractions of a second.
    let slack = clock_set.saturating_add(Duration::from_secs(1));
    let slack = time::Duration::try_from(slack).unwrap_or(time::Duration::MAX);
    let mut last: Option<(OffsetDateTime, &str)> = None;
    for text in order.into_iter().flatten() {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok();
        let Some(time) = time.filter(|_| pipelock_receipts::is_rfc3339(text)) else {
            findings.add(&rules::TIME, rules::here(), "RFC 3339", text);
            continue;
        };
        if let Some((before, stated)) = last
            && time.saturating_add(slack) < before
        {
            let expected = format!("not before {stated}");
            findings.add(&rules::TIME, rules::here(), expected, text);
        }
        last = Some((time, text));
    }
}
