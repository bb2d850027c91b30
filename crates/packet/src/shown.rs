//! The data of the pages for people, and the pieces of text that the pages share.
use std::collections::BTreeMap;

use egress_policy::allowed::Allowed;
use pipelock_receipts::report::{End, EvidenceReport};

use super::activity::{Activity, Traffic};
use super::format::boundary::{BoundaryDocument, Denied, DeniedRow};
use super::format::changes::Change;
use super::grade::Graded;
use super::held_back::HeldBack;
use super::hint::{Hint, Settings};
use super::joined::nanos;
use super::listing::in_order;
use super::model::{AUDIT_ENFORCEMENT, Packet, PacketVerdict};
use super::reasons;
use super::verifier_text::brief;

/// The title of the list of answers that no receipt confirms.
pub(super) const ANSWERED: &str = "Allowed or denied: not known";
pub(super) const ANSWERED_NOTE: &str = "These answers look like denials, but no receipt denies \
    the requests. Either the origin wrote the answer, or the mediator wrote it without signing a denial.";
/// Keeps a number and its unit on one line.
const NBSP: char = '\u{a0}';
pub(super) const HELD_BACK: &str = "Changes held back";

/// The data of the pages for people. The packet contains or determines all of this data.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The packet.
    pub packet: &'a Packet,
    /// The check of the receipts.
    pub report: &'a EvidenceReport,
    /// `boundary.json`.
    pub boundary_document: &'a BoundaryDocument,
    /// The grade of the boundary.
    pub graded: &'a Graded,
    /// The hosts that the policy allows.
    pub allowed: &'a Allowed,
    /// The traffic in the flow log.
    pub activity: &'a Activity,
    /// The changes that were not applied.
    pub held_back: &'a HeldBack,
    /// SHA-256 of `packet.json`, lowercase hex.
    pub packet_sha256: &'a str,
}

impl<'a> Shown<'a> {
    pub(super) fn is_audit(&self) -> bool {
        self.packet.posture.enforcement_mode == AUDIT_ENFORCEMENT
    }

    pub(super) fn denied_title(&self) -> &'static str {
        if self.is_audit() {
            "Would be denied"
        } else {
            "Denied"
        }
    }

    pub(super) fn allowed_title(&self) -> &'static str {
        if self.is_audit() {
            "Connections"
        } else {
            "Allowed"
        }
    }

    /// Returns a number of bytes in words. An audit does not count bytes.
    pub(super) fn carried(&self, count: u64) -> String {
        if self.is_audit() {
            String::from("not counted")
        } else {
            bytes(count)
        }
    }

    /// Returns the denied attempts, each with its hint.
    pub(super) fn hinted(&self) -> Vec<(&'a DeniedRow, Hint)> {
        let settings = Settings {
            allowed: self.allowed,
            ports: &self.boundary_document.allowed_ports,
        };
        let rows = in_order(&self.boundary_document.denied).into_iter();
        rows.map(|row| (row, Hint::of(&row.attempt, settings)))
            .collect()
    }

    pub(super) fn boundary_signer(&self) -> &'a str {
        let key = &self.boundary_document.attestation;
        if key.pinned {
            key.key.as_str()
        } else {
            "a key of this run, which cannot be pinned"
        }
    }

    /// Returns the command that checks the packet, and the sentence that explains its placeholders. A directory that
    /// would need quotes is replaced by a placeholder. `egress verify` rejects the packet of every audit, so an audit has
    /// no such command.
    pub(super) fn check_command(&self) -> Option<(String, &'static str)> {
        if self.is_audit() {
            return None;
        }
        let is_plain = |text: &&str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_plain)
        };
        let directory = Some(self.boundary_document.packet_directory.as_str());
        let directory = directory.filter(is_plain).unwrap_or("PACKET");
        let has_signer = self.packet.verifier.verdict == PacketVerdict::Valid;
        let has_boundary = self.boundary_document.attestation.pinned;
        let (options, fill_in) = match (has_signer, has_boundary) {
            (true, true) => (
                "--key RECEIPT_KEY --boundary-key BOUNDARY_KEY",
                "Replace RECEIPT_KEY and BOUNDARY_KEY with the public keys that you keep yourself. Keys from the packet prove nothing.",
            ),
            (true, false) => (
                "--key RECEIPT_KEY",
                "Replace RECEIPT_KEY with the public key that you keep yourself. A key from the packet proves nothing.",
            ),
            (false, true) => (
                "--boundary-key BOUNDARY_KEY --allow-unpinned",
                "Replace BOUNDARY_KEY with the public key that you keep yourself. A key from the packet proves nothing.",
            ),
            (false, false) => (
                "--allow-unpinned",
                "The run had no keys that you could keep, so this shows only that the packet is consistent.",
            ),
        };
        Some((format!("egress verify {directory} {options}"), fill_in))
    }

    /// Returns the first reason why the packet is not valid, or why the grade is not higher.
    pub(super) fn because(&self) -> Option<(&'static str, String)> {
        let error = self.packet.verifier.error.iter();
        let error = error.map(|error| ("Not valid", brief(error)));
        let reasons = self.graded.reasons.iter();
        let reasons = reasons.map(|reason| ("Not graded higher", brief(reason)));
        error.chain(reasons).next()
    }

    /// Returns names and values of the run that are not hashes, in the order in which they are shown.
    pub(super) fn about(&self) -> Vec<(&'static str, String)> {
        let run = &self.packet.run;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let exit = run.agent_exit_code.map(|code| code.to_string());
        let arguments = self.packet.posture.script_arg_count;
        let command = text(&self.packet.posture.script_basename);
        let command = match arguments {
            Some(1) => format!("{command} with 1 argument"),
            Some(count @ 2..) => format!("{command} with {count} arguments"),
            Some(0) | None => command,
        };
        let rows = vec![
            ("Command", command),
            ("Exit status of the command", exit.unwrap_or_default()),
            ("Agent", run.agent_identity.clone()),
            ("Repository", text(&run.repository)),
            ("Workflow", text(&run.workflow)),
            ("Commit", text(&run.sha)),
            ("Started", run.started_at.clone()),
            ("Completed", text(&run.completed_at)),
            ("Duration", self.duration().unwrap_or_default()),
        ];
        let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
        rows.collect()
    }

    fn duration(&self) -> Option<String> {
        let run = &self.packet.run;
        let start = nanos(&run.started_at)?;
        let end = nanos(run.completed_at.as_deref()?)?;
        Some(seconds(end.saturating_sub(start)))
    }

    /// Returns names and values about the evidence: the words that programs use, keys, and hashes.
    pub(super) fn evidence(&self) -> Vec<(&'static str, String)> {
        let verifier = &self.packet.verifier;
        let counts = &self.report.counts;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let end = match self.report.end {
            End::Proven => "proven",
            End::Unproven(reason) => reason,
        };
        let mut verdict = verifier.verdict.word().to_owned();
        if self.is_audit() {
            verdict.push_str(" (an audit has no receipts)");
        }
        let rows = vec![
            ("Verdict", verdict),
            ("End of the evidence", end.to_owned()),
            ("Enforcement", self.packet.posture.enforcement_mode.clone()),
            ("Boundary", self.graded.grade.to_string()),
            (
                "Actions",
                format!("{}, {} denied", counts.actions, counts.blocked_actions),
            ),
            ("Receipts", self.packet.summary.receipt_count.to_string()),
            ("Receipts signed by", text(&verifier.signer_key)),
            ("Boundary signed by", self.boundary_signer().to_owned()),
            ("Root hash", text(&verifier.root_hash)),
            ("SHA-256 of packet.json", self.packet_sha256.to_owned()),
        ];
        let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
        rows.collect()
    }

    /// Returns the words of the posture.
    pub(super) fn posture(&self) -> Vec<(&'static str, String)> {
        let words = serde_json::to_value(&self.packet.posture).unwrap_or_default();
        [
            "raw_socket_status",
            "docker_socket_status",
            "dns_udp_status",
            "browser_proxy_status",
            "websocket_frame_scanning",
        ]
        .into_iter()
        .map(|member| {
            let word = words.get(member).and_then(|word| word.as_str());
            (member, word.unwrap_or_default().to_owned())
        })
        .collect()
    }

    /// Returns the names of the probes by their outcome.
    pub(super) fn probes(&self) -> BTreeMap<&'a str, Vec<&'a str>> {
        let mut outcomes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for probe in &self.boundary_document.probes.results {
            let names = outcomes.entry(probe.outcome.as_str()).or_default();
            names.push(&probe.name);
        }
        outcomes
    }

    /// Returns the lists that explain the grade and the limits of the record.
    pub(super) fn remarks(&self) -> [(&'static str, Vec<String>); 5] {
        let document = self.boundary_document;
        let texts = |names: &[super::format::Name]| names.iter().map(ToString::to_string).collect();
        let error = self.packet.verifier.error.iter().cloned();
        let unsupported = self.packet.posture.unsupported_paths.iter();
        [
            (
                "Why the boundary is not graded higher",
                error.chain(self.graded.reasons.iter().cloned()).collect(),
            ),
            ("The record is incomplete", texts(&document.incomplete)),
            ("Accepted risks", document.accepted_probes()),
            (
                "Not enforced",
                unsupported.map(|path| reasons::of_path(path)).collect(),
            ),
            ("Notices", texts(&document.notices)),
        ]
    }

    /// Returns the first and the last time of traffic, counted from the start of the run.
    pub(super) fn times(&self, traffic: &Traffic) -> Option<String> {
        let (start, _) = self.activity.span?;
        let (first, last) = traffic.times?;
        let [first, last] = [first, last].map(|at| seconds(at.saturating_sub(start)));
        Some(if first == last {
            first
        } else {
            format!("{first} to {last}")
        })
    }
}

/// Returns the name of a process. A denial by the hooks on the mediator's own sockets has no process name.
pub(super) fn process(name: &str) -> &str {
    if name.is_empty() { "(not known)" } else { name }
}

/// Returns the reason for a denial in words, if its code is known.
pub(super) fn why(denied: &Denied) -> String {
    reasons::of_denial(denied).map_or_else(String::new, |words| format!("{words}."))
}

/// Returns a change in words, for example `created file`.
pub(super) fn what(change: &Change) -> String {
    let mut text = format!("{} {}", change.change, change.kind);
    if let Some(from) = &change.from {
        text.push_str(" from ");
        text.push_str(from);
    }
    if let Some(target) = &change.target {
        text.push_str(" to ");
        text.push_str(target);
    }
    text
}

/// Returns a duration in seconds, for example `0.25 s`, or in minutes.
pub(super) fn seconds(nanos: i128) -> String {
    let hundredths = nanos.max(0).checked_div(10_000_000).unwrap_or(0);
    let part = |unit: i128| hundredths.checked_div(unit).unwrap_or(0);
    let rest = |value: i128, unit: i128| value.checked_rem(unit).unwrap_or(0);
    let (minutes, seconds) = (part(6_000), rest(part(100), 60));
    if minutes == 0 {
        return format!("{seconds}.{:02}{NBSP}s", rest(hundredths, 100));
    }
    format!("{minutes}{NBSP}min {seconds:02}{NBSP}s")
}

/// Returns a number of bytes in a unit that people read, rounded down.
pub(super) fn bytes(count: u64) -> String {
    let mut tenths = count.saturating_mul(10);
    let mut units = ["B", "KiB", "MiB", "GiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if tenths < 10_240 {
            break;
        }
        tenths = tenths.checked_div(1_024).unwrap_or(0);
        unit = larger;
    }
    let whole = tenths.checked_div(10).unwrap_or(0);
    match tenths.checked_rem(10).unwrap_or(0) {
        0 => format!("{whole}{NBSP}{unit}"),
        tenth => format!("{whole}.{tenth}{NBSP}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (count, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1 KiB"),
            (1_587, "1.5 KiB"),
            (5 << 20, "5 MiB"),
        ] {
            assert_eq!(bytes(count).replace(NBSP, " "), text);
        }
        for (nanos, text) in [
            (-5, "0.00 s"),
            (250_000_000, "0.25 s"),
            (59_999_999_999, "59.99 s"),
            (61_500_000_000, "1 min 01 s"),
        ] {
            assert_eq!(seconds(nanos).replace(NBSP, " "), text);
        }
    }
}
