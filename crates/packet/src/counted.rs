//! Counts the rows of the flow log, and compares the counts with the counts in `boundary.json`.
use std::collections::{BTreeMap, BTreeSet};

use egress_policy::allowed::Allowed;
use pipelock_receipts::findings::{Findings, Place};
use pipelock_receipts::json::Node;

use super::denied::{Attempts, OTHERS, in_natural_order};
use super::format::boundary::{BoundaryDocument, Denied, DeniedRow, LISTED, Residual};
use super::format::rows::{PORT_NOT_ALLOWED, RelayRow};
use super::format::{BeatEvent, MediatorVerdict, RelayVerdict, Row, Tried};
use super::grade::{Caps, Grade};
use super::names::{BOUNDARY_FILE, FLOWS_FILE};
use super::reconcile::{Receipts, confirmed};
use super::{as_stated, required, rules};

#[cfg(test)]
mod tests;

/// Every row is longer than this number of bytes, because its two hashes have 64 digits each.
const SHORTEST_ROW: u64 = 128;

/// Port, protocol, reason, and process of equal denied attempts.
type DeniedAlike = (u16, String, String, String);

#[derive(Debug, Default)]
pub(super) struct Counted {
    channels: Residual,
    by_verdict: BTreeMap<String, u64>,
    closes: u64,
    mediator_denied: u64,
    allowed: BTreeMap<(String, u16), u64>,
    /// Destination ports of the requests to the mediator.
    ports: BTreeSet<u16>,
    /// Destination ports that the relay denied.
    denied_ports: BTreeSet<u16>,
    /// Number of denied attempts, and their possible destinations. Several destinations are
    /// possible, because an address may get a name later.
    denied: BTreeMap<DeniedAlike, (u64, BTreeSet<String>)>,
    answered: BTreeMap<Denied, u64>,
    unclear: Attempts,
    /// Largest number of processes of the command at a heartbeat.
    processes: u64,
    /// Number of rows, and number of rows before the last heartbeat.
    rows: u64,
    checked: u64,
    ring_full: u64,
    relay_denied: u64,
    /// Number of rows that do not match the schema, and the deviation of the first such row.
    malformed: u64,
    first_malformed: String,
}

impl Counted {
    pub(super) fn see(&mut self, node: &Node<'_>, row: &Row) {
        let deviations = row.deviations(node);
        if !deviations.is_empty() {
            self.malformed = self.malformed.saturating_add(1);
            if self.first_malformed.is_empty() {
                self.first_malformed = deviations.join(", ");
            }
        }
        if let Some(attempts) = row.attempts() {
            self.attempts(attempts);
        }
        match row {
            // `mediator_denied` counts every row. A row with the verdict `probe` is not listed as a denied
            // destination, because the mediator's library would not have sent data.
            Row::KernelMediatorDenied(row) => {
                self.mediator_denied = self.mediator_denied.saturating_add(1);
                if row.verdict == MediatorVerdict::Denied {
                    let alike = alike(row.port, &row.protocol, row.reason.as_str(), "");
                    self.deny(alike, 1, BTreeSet::from([row.dst.to_string()]));
                }
            }
            Row::KernelMediatorDeniedRepeats(row) => {
                let count = row.count.saturating_sub(1);
                self.mediator_denied = self.mediator_denied.saturating_add(count);
                if row.verdict == MediatorVerdict::Denied {
                    let alike = alike(row.port, &row.protocol, row.reason.as_str(), "");
                    self.deny(alike, count, BTreeSet::from([row.dst.to_string()]));
                }
            }
            Row::KernelClose(_) => self.closes = self.closes.saturating_add(1),
            Row::KernelCloseTotal(row) => self.closes = self.closes.saturating_add(row.count),
            Row::Relay(row) => self.relay(row),
            Row::Resolver(row) => self.channels.name(&row.name),
            Row::Supervisor(row) => {
                self.processes = self.processes.max(row.processes);
                if row.event == BeatEvent::Heartbeat {
                    self.checked = self.rows;
                }
                (self.ring_full, self.relay_denied) = (row.ring_full, row.relay_denied);
            }
            Row::End(row) => {
                (self.ring_full, self.relay_denied) = (row.ring_full, row.relay_denied);
            }
            Row::Kernel(_)
            | Row::KernelRepeats(_)
            | Row::Unix(_)
            | Row::UnixRepeats(_)
            | Row::DnsAnswer(_)
            | Row::KernelMediator(_)
            | Row::KernelMediatorTotal(_)
            | Row::Unknown(_) => {}
        }
        self.rows = self.rows.saturating_add(1);
    }

    /// Returns the largest number of processes of the command at a heartbeat.
    pub(super) fn processes(&self) -> u64 {
        self.processes
    }

    /// Returns a lower bound of the length of the flow log at the last heartbeat, in bytes. The supervisor compared the
    /// length with its limit before it wrote this heartbeat.
    pub(super) fn least_length(&self) -> u64 {
        self.checked.saturating_mul(SHORTEST_ROW)
    }

    fn attempts(&mut self, attempts: Tried<'_>) {
        let Tried { verdict, count, .. } = attempts;
        match self.by_verdict.get_mut(verdict) {
            Some(counted) => *counted = counted.saturating_add(count),
            None => {
                self.by_verdict.insert(verdict.to_owned(), count);
            }
        }
        let is_unix = attempts.protocol == "unix";
        if verdict == if is_unix { "unreachable" } else { "denied" } {
            let (port, process) = (attempts.port, attempts.process);
            let alike = alike(port, attempts.protocol, attempts.reason, process);
            self.deny(alike, count, places(attempts.name, attempts.place));
        }
    }

    fn deny(&mut self, alike: DeniedAlike, count: u64, places: BTreeSet<String>) {
        let (counted, destinations) = self.denied.entry(alike).or_default();
        *counted = counted.saturating_add(count);
        destinations.extend(places);
    }

    fn deny_attempt(&mut self, attempt: Denied, count: u64) {
        let Denied {
            destination,
            port,
            protocol,
            reason,
            process,
        } = attempt;
        let places = BTreeSet::from([destination]);
        self.deny((port, protocol, reason, process), count, places);
    }

    fn relay(&mut self, row: &RelayRow) {
        if let Some(reason) = row.denial() {
            let address = row.orig_dst.map(|dst| dst.ip().to_string());
            let host = row.host.as_deref().map(str::to_owned);
            let destination = host.or(address).unwrap_or_default();
            let attempt = Denied {
                destination,
                port: row.port.unwrap_or(0),
                protocol: row.protocol.to_string(),
                reason,
                process: row.process.clone(),
            };
            if row.verdict == RelayVerdict::Answered {
                let counted = self.answered.entry(attempt).or_default();
                *counted = counted.saturating_add(1);
            } else {
                self.deny_attempt(attempt, 1);
            }
        } else if let (Some(host), Some(port)) = (&row.host, row.port)
            && row.went_through()
        {
            let counted = self.allowed.entry((host.to_string(), port)).or_default();
            *counted = counted.saturating_add(1);
        }
        if row.transport.is_some() {
            self.ports.extend(row.port);
        }
        if row.verdict == RelayVerdict::Refused && row.reason == PORT_NOT_ALLOWED {
            self.denied_ports.extend(row.port);
        }
        self.channels.row(row, 0);
    }

    /// Adds the answers that the receipts confirm to the denied attempts, and keeps the other
    /// answers as unclear.
    pub(super) fn settle(&mut self, receipts: &Receipts, allowed: &Allowed) {
        let answers = std::mem::take(&mut self.answered).into_iter().collect();
        let (signed, mut unclear) = confirmed(answers, receipts, allowed);
        for (attempt, count) in signed {
            self.deny_attempt(attempt, count);
        }
        in_natural_order(&mut unclear, |(denied, count)| (denied, *count));
        self.unclear = unclear;
    }

    /// Compares the numbers of `boundary.json` with the rows, unless `incomplete` has a reason: the numbers include
    /// rows that could not be written.
    ///
    /// `connections` is the number of connections in the rows of the relay.
    pub(super) fn check(
        &self,
        boundary_document: &BoundaryDocument,
        connections: u64,
        findings: &mut Findings,
        caps: &mut Caps,
    ) {
        if self.malformed > 0 {
            let reason = format!(
                "rows of the flow log that do not match the schema: {}; the first: {}",
                self.malformed, self.first_malformed
            );
            caps.cap(Grade::KernelObserved, reason);
        }
        if !boundary_document.incomplete.is_empty() {
            return;
        }
        let counters = &boundary_document.counters;
        let probes = required::redirected(boundary_document);
        for (met, what) in [
            (
                counters.closes_expected == counters.closes_seen,
                "connections of the command have no close",
            ),
            (
                self.closes.saturating_add(probes) <= counters.closes_seen,
                "the flow log and the probes have more closes than the kernel counted",
            ),
            // The relay serves no connection without a slot. The kernel counts the expected close of a
            // connection before it writes the slot.
            (
                connections.saturating_add(probes) <= counters.slots_written,
                "the flow log and the probes have more connections to the relay than slots were written",
            ),
            (
                counters.slots_written <= counters.closes_expected,
                "more slots were written than closes were expected",
            ),
            (
                counters.mediator_denied == self.mediator_denied,
                "mediator_denied differs from the rows",
            ),
            (
                counters.ring_full == self.ring_full,
                "ring_full differs from the last row",
            ),
            (
                counters.relay_denied == self.relay_denied,
                "relay_denied differs from the last row",
            ),
        ] {
            caps.unless(met, Grade::KernelObserved, &format!("counters: {what}"));
        }
        let mut differs = |expected: String, found: String| {
            if expected != found {
                let place = Place::in_file(BOUNDARY_FILE);
                findings.add(
                    &rules::STATEMENT,
                    place,
                    format!("{expected} in {FLOWS_FILE}"),
                    found,
                );
            }
        };
        let flows = &boundary_document.flows;
        let stated: BTreeSet<u16> = boundary_document.allowed_ports.iter().copied().collect();
        let mut ports = stated;
        ports.extend(self.ports.iter().copied().chain([80, 443]));
        ports.retain(|port| !self.denied_ports.contains(port));
        for (name, counted, stated) in [
            (
                "by_verdict",
                as_stated(&self.by_verdict),
                as_stated(&flows.by_verdict),
            ),
            (
                "names",
                as_stated(&self.channels.names),
                as_stated(&flows.names),
            ),
            (
                "allowed_ports",
                as_stated(&ports),
                as_stated(&boundary_document.allowed_ports),
            ),
        ] {
            differs(format!("{name} {counted}"), format!("{name} {stated}"));
        }
        // Only the stub resolver makes rows about names.
        if self.channels.names > 0 {
            let stated = boundary_document.dns.as_str();
            differs(String::from("dns synthetic"), format!("dns {stated}"));
        }
        self.channels(boundary_document, &mut differs);
        self.allowed(boundary_document, &mut differs);
        self.denied(boundary_document, &mut differs);
        self.unclear(boundary_document, &mut differs);
        has_room(boundary_document, &mut differs);
    }

    fn channels(
        &self,
        boundary_document: &BoundaryDocument,
        differs: &mut impl FnMut(String, String),
    ) {
        let (stated, counted) = (&boundary_document.residual_channels, &self.channels);
        let numbers = |channels: &Residual| {
            format!("{} names of {} bytes", channels.names, channels.name_bytes)
        };
        differs(numbers(counted), numbers(stated));
        let hosts = counted
            .allowed_hosts
            .keys()
            .chain(stated.allowed_hosts.keys());
        let hosts: BTreeSet<&String> = hosts.collect();
        for host in hosts {
            let [counted, stated] = [counted, stated].map(|channels| {
                let through = channels.allowed_hosts.get(host);
                as_stated(&through.map(|through| through.in_rows()))
            });
            differs(format!("{host} {counted}"), format!("{host} {stated}"));
        }
        for (name, counted, stated) in [
            ("other_hosts", counted.other_hosts, stated.other_hosts),
            ("blocked", counted.blocked, stated.blocked),
        ] {
            let [counted, stated] = [counted, stated.in_rows()].map(|one| as_stated(&one));
            differs(format!("{name} {counted}"), format!("{name} {stated}"));
        }
    }

    fn allowed(
        &self,
        boundary_document: &BoundaryDocument,
        differs: &mut impl FnMut(String, String),
    ) {
        let counted = self.allowed.iter();
        let mut counted: Vec<(&str, u16, u64)> = counted
            .map(|((host, port), count)| (host.as_str(), *port, *count))
            .collect();
        counted.sort_by(|one, other| other.2.cmp(&one.2).then_with(|| one.cmp(other)));
        let number = u64::try_from(counted.len()).unwrap_or(u64::MAX);
        let stated = boundary_document.allowed.iter();
        let stated: Vec<(&str, u16, u64)> = stated
            .map(|row| (row.host.as_str(), row.port, row.count))
            .collect();
        let listed = u64::try_from(stated.len()).unwrap_or(u64::MAX);
        let all = listed.saturating_add(boundary_document.allowed_left_out);
        differs(
            format!("{number} destinations allowed"),
            format!("{all} destinations allowed"),
        );
        for (counted, stated) in counted.iter().zip(&stated) {
            let [counted, stated] = [counted, stated]
                .map(|(host, port, count)| format!("allowed {host}:{port}, {count} times"));
            differs(counted, stated);
        }
    }

    /// Compares the unclear answers, unless the writer had so many kinds of attempts that it
    /// counted some kinds together.
    fn unclear(
        &self,
        boundary_document: &BoundaryDocument,
        differs: &mut impl FnMut(String, String),
    ) {
        let is_other = |row: &DeniedRow| row.attempt.destination == OTHERS;
        if boundary_document.denied_left_out > 0 || boundary_document.denied.iter().any(is_other) {
            return;
        }
        let text = |count: u64, attempt: &Denied| {
            format!("{count} answered {} {}", attempt.target(), attempt.why())
        };
        let all = |listed: usize, left_out: u64| {
            let listed = u64::try_from(listed).unwrap_or(u64::MAX);
            format!("{} kinds of answers", listed.saturating_add(left_out))
        };
        differs(
            all(self.unclear.len(), 0),
            all(
                boundary_document.answered.len(),
                boundary_document.answered_left_out,
            ),
        );
        for (counted, stated) in self.unclear.iter().zip(&boundary_document.answered) {
            let DeniedRow { count, attempt } = stated;
            differs(text(counted.1, &counted.0), text(*count, attempt));
            differs(counted.0.process.clone(), attempt.process.clone());
        }
    }

    fn denied(
        &self,
        boundary_document: &BoundaryDocument,
        differs: &mut impl FnMut(String, String),
    ) {
        let mut stated: BTreeMap<DeniedAlike, u64> = BTreeMap::new();
        let mut last = u64::MAX;
        let mut seen = BTreeSet::new();
        for row in &boundary_document.denied {
            let attempt = &row.attempt;
            let name = format!("{} {}", attempt.target(), attempt.why());
            if row.count > last || row.count == 0 || !seen.insert(attempt.clone()) {
                differs(
                    String::from("denied attempts in order of their number, each once"),
                    format!("{} of {name}", row.count),
                );
            }
            last = row.count;
            if attempt.destination == OTHERS {
                return;
            }
            let alike = (
                attempt.port,
                attempt.protocol.clone(),
                attempt.reason.clone(),
                attempt.process.clone(),
            );
            let there = self.denied.get(&alike);
            if !there.is_some_and(|(_, destinations)| destinations.contains(&attempt.destination)) {
                differs(String::from("no such denied attempt"), name);
            }
            let sum = stated.entry(alike).or_default();
            *sum = sum.saturating_add(row.count);
        }
        for (alike, (counted, _)) in &self.denied {
            let stated = stated.get(alike).copied().unwrap_or(0);
            let may_be_fewer = boundary_document.denied_left_out > 0;
            if stated > *counted || (stated < *counted && !may_be_fewer) {
                let what = format!("denied {} {} {}", alike.1, alike.2, alike.3);
                differs(format!("{counted} {what}"), format!("{stated} {what}"));
            }
        }
    }
}

fn alike(port: u16, protocol: &str, reason: &str, process: &str) -> DeniedAlike {
    let [protocol, reason, process] = [protocol, reason, process].map(str::to_owned);
    (port, protocol, reason, process)
}

/// Returns the possible destinations of a denied attempt: its name, and its address unless the
/// address is unspecified.
fn places(name: Option<&str>, place: &str) -> BTreeSet<String> {
    let is_unspecified = place
        .parse()
        .is_ok_and(|address: std::net::IpAddr| address.is_unspecified());
    let place =
        (is_unspecified || !place.is_empty()).then_some(if is_unspecified { "" } else { place });
    let name = name.filter(|name| !name.is_empty());
    name.into_iter().chain(place).map(str::to_owned).collect()
}

/// Checks that a list from which elements were left out is full.
fn has_room(boundary_document: &BoundaryDocument, mut differs: impl FnMut(String, String)) {
    for (name, listed, left_out) in [
        (
            "allowed",
            boundary_document.allowed.len(),
            boundary_document.allowed_left_out,
        ),
        (
            "denied",
            boundary_document.denied.len(),
            boundary_document.denied_left_out,
        ),
        (
            "answered",
            boundary_document.answered.len(),
            boundary_document.answered_left_out,
        ),
    ] {
        if left_out > 0 && listed < LISTED {
            differs(
                format!("0 of {name} left out"),
                format!("{left_out} of {name} left out"),
            );
        }
    }
}
