//! `summary.md`: the packet for people, safe to render as Markdown.
//!
//! All text that the command or the evidence can influence is in a code span inside a table cell, so it cannot become a
//! link, mention, image, or HTML.
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use egress_policy::allowed::Allowed;
use egress_policy::natural;
use pipelock_receipts::findings::visible;
use pipelock_receipts::report::{End, EvidenceReport};

use super::denied::in_natural_order;
use super::format::boundary::{AllowedRow, BoundaryDocument, DeniedRow};
use super::grade::Graded;
use super::hint::{Block, Hint, Settings};
use super::model::{AUDIT_ENFORCEMENT, Packet};

const MAX_ROWS: usize = 100;
/// The title of the list of answers that no receipt confirms.
pub(super) const ANSWERED: &str = "Allowed or denied: not known";
pub(super) const ANSWERED_NOTE: &str = "These answers look like denials, but no receipt denies \
    the requests. Either the origin wrote the answer, or the mediator wrote it without signing a denial.";
const MAX_CHARACTERS: usize = 200;

/// The data of the pages for people. All of this data is in the packet.
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
    /// SHA-256 of `packet.json`, lowercase hex.
    pub packet_sha256: &'a str,
}

impl Shown<'_> {
    fn boundary_key(&self) -> Option<&str> {
        let key = &self.boundary_document.attestation;
        key.pinned.then_some(key.key.as_str())
    }

    pub(super) fn boundary_signer(&self) -> &str {
        let named = self.boundary_key();
        named.unwrap_or("a key of this run, which nobody can pin")
    }

    /// Returns the command that checks the packet. A directory or key that would need quotes is replaced by a
    /// placeholder.
    pub(super) fn check_command(&self) -> String {
        let plain = |text: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_plain)
        };
        let directory =
            Some(self.boundary_document.packet_directory.as_str()).filter(|text| plain(text));
        let key = self.packet.verifier.signer_key.as_deref();
        let trust = match key.filter(|key| plain(key)) {
            Some(key) => format!("--key {key}"),
            None => String::from("--allow-unpinned"),
        };
        let mut command = format!("egress verify {} {trust}", directory.unwrap_or("PACKET"));
        if let Some(key) = self.boundary_key().filter(|key| plain(key)) {
            command.push_str(" --boundary-key ");
            command.push_str(key);
        }
        command
    }

    pub(super) fn denied_title(&self) -> &'static str {
        match self.packet.posture.enforcement_mode.as_str() {
            AUDIT_ENFORCEMENT => "Would be denied",
            _ => "Denied",
        }
    }
}

/// Returns the summary as Markdown.
pub fn render(shown: &Shown<'_>) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    write(&mut out, shown).map_or_else(|_error| String::new(), |()| out)
}

fn write(out: &mut String, shown: &Shown<'_>) -> std::fmt::Result {
    let Shown {
        packet,
        report,
        boundary_document,
        graded,
        ..
    } = *shown;
    let verifier = &packet.verifier;
    let counts = &report.counts;
    out.push_str("# Audit Packet\n\n| | |\n|---|---|\n");
    let verdict = serde_json::to_value(verifier.verdict).unwrap_or_default();
    row(out, "Verdict", verdict.as_str().unwrap_or(""))?;
    let end = match report.end {
        End::Proven => "proven",
        End::Unproven(reason) => reason,
    };
    row(out, "End of the evidence", end)?;
    row(out, "Agent", &packet.run.agent_identity)?;
    optional(out, "Repository", packet.run.repository.as_deref())?;
    optional(out, "Workflow", packet.run.workflow.as_deref())?;
    optional(out, "Commit", packet.run.sha.as_deref())?;
    row(out, "Started", &packet.run.started_at)?;
    optional(out, "Completed", packet.run.completed_at.as_deref())?;
    if let Some(code) = packet.run.agent_exit_code {
        row(out, "Exit status of the command", code)?;
    }
    row(out, "Enforcement", &packet.posture.enforcement_mode)?;
    row(out, "Boundary", graded.grade)?;
    row(out, "Boundary signed by", shown.boundary_signer())?;
    row(
        out,
        "Actions",
        format!("{}, {} denied", counts.actions, counts.blocked_actions),
    )?;
    row(out, "Receipts", packet.summary.receipt_count)?;
    optional(out, "Signer", verifier.signer_key.as_deref())?;
    optional(out, "Root hash", verifier.root_hash.as_deref())?;
    optional(out, "Error", verifier.error.as_deref())?;
    row(out, "SHA-256 of packet.json", shown.packet_sha256)?;
    denied(out, shown.denied_title(), boundary_document, shown.allowed)?;
    answered(out, boundary_document)?;
    allowed(out, boundary_document)?;
    list(
        out,
        "Why the boundary is not graded higher",
        &graded.reasons,
    )?;
    let mut domains: Vec<String> = counts.domains.iter().cloned().collect();
    domains.sort_by(|a, b| natural::compare(a, b));
    list(out, "Destinations in the receipts", &domains)?;
    map(out, "Receipts by transport", &counts.transports)?;
    map(out, "Denied by layer", &counts.layers)?;
    list(out, "Not enforced", &packet.posture.unsupported_paths)?;
    posture(out, packet, boundary_document)?;
    check_it(out, shown)?;
    list(out, "Accepted risks", &boundary_document.accepted_probes())?;
    list(out, "Notices", &boundary_document.notices)?;
    list(
        out,
        "The record is incomplete",
        &boundary_document.incomplete,
    )
}

/// Returns the denied attempts for people, each with its hint.
pub(super) fn hinted<'d>(
    boundary_document: &'d BoundaryDocument,
    allowed: &Allowed,
) -> Vec<(&'d DeniedRow, Hint)> {
    let settings = Settings {
        allowed,
        ports: &boundary_document.allowed_ports,
    };
    let rows = in_order(&boundary_document.denied).into_iter();
    rows.map(|row| (row, Hint::of(&row.attempt, settings)))
        .collect()
}

/// Returns the rows in natural order.
pub(super) fn in_order(rows: &[DeniedRow]) -> Vec<&DeniedRow> {
    let mut rows: Vec<&DeniedRow> = rows.iter().collect();
    in_natural_order(&mut rows, |row| (&row.attempt, row.count));
    rows
}

/// Returns the allowed destinations in natural order, the most frequent first.
pub(super) fn allowed_in_order(boundary_document: &BoundaryDocument) -> Vec<&AllowedRow> {
    let mut rows: Vec<&AllowedRow> = boundary_document.allowed.iter().collect();
    rows.sort_by(|a, b| {
        let by_count = b.count.cmp(&a.count);
        by_count
            .then_with(|| natural::compare(&a.host, &b.host))
            .then_with(|| a.port.cmp(&b.port))
    });
    rows
}

fn denied(
    out: &mut String,
    title: &str,
    boundary_document: &BoundaryDocument,
    allowed: &Allowed,
) -> std::fmt::Result {
    let rows = hinted(boundary_document, allowed);
    if rows.is_empty() {
        return Ok(());
    }
    write!(out, "\n## {title}\n")?;
    out.push_str(
        "\n| Destination | Process | Count | Why | To allow it |\n|---|---|---|---|---|\n",
    );
    for (row, hint) in rows.iter().take(MAX_ROWS) {
        let attempt = &row.attempt;
        let settings = hint.settings().as_deref().map(code).unwrap_or_default();
        // A note is a constant of this program.
        let note = hint.note.unwrap_or_default();
        writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            code(&attempt.target()),
            code(&attempt.process),
            row.count,
            code(&attempt.why()),
            [settings.as_str(), note].join(" ").trim()
        )?;
    }
    more(out, rows.len(), boundary_document.denied_left_out)?;
    let Some(block) = Block::of(rows.iter().map(|(_, hint)| hint)) else {
        return Ok(());
    };
    out.push_str("\nTo allow them all:\n");
    for (language, text) in [("yaml", block.policy.trim_end()), ("text", &block.options)] {
        if !text.is_empty() {
            write!(out, "\n```{language}\n{text}\n```\n")?;
        }
    }
    Ok(())
}

fn answered(out: &mut String, boundary_document: &BoundaryDocument) -> std::fmt::Result {
    let rows = in_order(&boundary_document.answered);
    if rows.is_empty() {
        return Ok(());
    }
    write!(out, "\n## {ANSWERED}\n\n{ANSWERED_NOTE}\n")?;
    out.push_str("\n| Destination | Process | Count | Answer |\n|---|---|---|---|\n");
    for row in rows.iter().take(MAX_ROWS) {
        let attempt = &row.attempt;
        writeln!(
            out,
            "| {} | {} | {} | {} |",
            code(&attempt.target()),
            code(&attempt.process),
            row.count,
            code(&attempt.why())
        )?;
    }
    more(out, rows.len(), boundary_document.answered_left_out)
}

fn allowed(out: &mut String, boundary_document: &BoundaryDocument) -> std::fmt::Result {
    let rows = allowed_in_order(boundary_document);
    if rows.is_empty() {
        return Ok(());
    }
    out.push_str("\n## Allowed\n\n| Destination | Count |\n|---|---|\n");
    for row in rows.iter().take(MAX_ROWS) {
        let destination = code(&format!("{}:{}", row.host, row.port));
        writeln!(out, "| {destination} | {} |", row.count)?;
    }
    more(out, rows.len(), boundary_document.allowed_left_out)
}

/// Writes the words of the posture, and the probes that they follow from.
fn posture(
    out: &mut String,
    packet: &Packet,
    boundary_document: &BoundaryDocument,
) -> std::fmt::Result {
    out.push_str("\n## Posture\n\n| | |\n|---|---|\n");
    let words = serde_json::to_value(&packet.posture).unwrap_or_default();
    for field in [
        "raw_socket_status",
        "docker_socket_status",
        "dns_udp_status",
        "browser_proxy_status",
        "websocket_frame_scanning",
    ] {
        let word = words.get(field).and_then(|word| word.as_str());
        row(out, field, word.unwrap_or_default())?;
    }
    let mut outcomes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for probe in &boundary_document.probes.results {
        let names = outcomes.entry(probe.outcome.as_str()).or_default();
        names.push(&probe.name);
    }
    if outcomes.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\nProbes inside the boundary before the start:\n\n| Outcome | Probes |\n|---|---|"
    )?;
    for (outcome, names) in outcomes {
        let names: Vec<String> = names.into_iter().map(code).collect();
        writeln!(out, "| {} | {} |", code(outcome), names.join(" "))?;
    }
    Ok(())
}

fn check_it(out: &mut String, shown: &Shown<'_>) -> std::fmt::Result {
    out.push_str(
        "\n## Check it\n\nRun this on another machine, offline, with keys that you keep yourself:\n\n",
    );
    writeln!(out, "```sh\n{}\n```", shown.check_command())
}

fn row(out: &mut String, name: &str, value: impl Display) -> std::fmt::Result {
    writeln!(out, "| {name} | {} |", code(&value.to_string()))
}

fn optional(out: &mut String, name: &str, value: Option<&str>) -> std::fmt::Result {
    value.map_or(Ok(()), |value| row(out, name, value))
}

fn list(
    out: &mut String,
    title: &str,
    items: &[impl std::ops::Deref<Target = str>],
) -> std::fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## {title}\n\n| |\n|---|")?;
    for item in items.iter().take(MAX_ROWS) {
        writeln!(out, "| {} |", code(item))?;
    }
    more(out, items.len(), 0)
}

fn map(out: &mut String, title: &str, map: &BTreeMap<String, u64>) -> std::fmt::Result {
    if map.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## {title}\n\n| | |\n|---|---|")?;
    for (name, count) in map.iter().take(MAX_ROWS) {
        writeln!(out, "| {} | {count} |", code(name))?;
    }
    more(out, map.len(), 0)
}

/// Writes the number of rows that are not shown: the rows over the limit of this page, and the rows
/// that the source `left_out`.
fn more(out: &mut String, rows: usize, left_out: u64) -> std::fmt::Result {
    let rows = u64::try_from(rows.saturating_sub(MAX_ROWS)).unwrap_or(u64::MAX);
    match rows.saturating_add(left_out) {
        0 => Ok(()),
        rest => writeln!(out, "\nand {rest} more"),
    }
}

/// Makes a code span for a table cell. Control characters are made visible, the fence is longer than any run of
/// backticks inside, and cell separators are escaped.
fn code(text: &str) -> String {
    let mut text = visible(text);
    if let Some((at, _)) = text.char_indices().nth(MAX_CHARACTERS) {
        text.truncate(at);
        text.push('…');
    }
    let longest = text
        .split(|character| character != '`')
        .map(str::len)
        .max()
        .unwrap_or(0);
    let fence = "`".repeat(longest.saturating_add(1));
    let text = text.replace('|', "\\|");
    format!("{fence} {text} {fence}")
}

#[cfg(test)]
mod tests {
    use super::super::denied::Denied;
    use super::*;

    #[test]
    fn nothing_leaves_a_code_span() {
        assert_eq!(code("a.test"), "` a.test `");
        assert_eq!(
            code("``` | <img> \n@me"),
            "```` ``` \\| <img> \\u{a}@me ````"
        );
        assert_eq!(code(&"x".repeat(300)).chars().count(), MAX_CHARACTERS + 5);
    }

    #[test]
    fn many_denials_end_in_one_block() {
        let row = |destination: &str, process: &str| DeniedRow {
            count: 1,
            attempt: Denied {
                destination: destination.into(),
                port: 443,
                protocol: String::from("connect"),
                reason: String::from("mediator_403"),
                process: process.into(),
            },
        };
        let boundary_document = BoundaryDocument {
            denied: vec![
                row("h10.test", "curl"),
                row("h2.test", "curl"),
                row("```\n# x", "git"),
            ],
            allowed_ports: vec![80, 443],
            ..BoundaryDocument::default()
        };
        let mut out = String::new();
        let policy = Allowed::strict(egress_policy::AllowList::default());
        denied(&mut out, "Denied", &boundary_document, &policy).unwrap();
        let block = "\nTo allow them all:\n\n```yaml\napi_allowlist:\n  - \"h2.test\"\n  - \"h10.test\"\n```\n";
        assert!(out.ends_with(block), "{out}");
        let row = "| ` h2.test:443 ` | ` curl ` | 1 | ` connect mediator_403 ` | ` api_allowlist: [\"h2.test\"] ` |";
        assert!(out.contains(row), "{out}");
    }

    #[test]
    fn hostile_names_stay_text() {
        let hostile =
            "`x`](https://evil.test) <img src=x> @team #1 | \u{202e}\u{200b}\n## Verdict: valid";
        let boundary_document = BoundaryDocument {
            denied: vec![DeniedRow {
                count: 1,
                attempt: Denied {
                    destination: hostile.into(),
                    process: hostile.into(),
                    reason: hostile.into(),
                    ..Denied::default()
                },
            }],
            allowed: vec![AllowedRow {
                host: hostile.into(),
                port: 443,
                count: 1,
            }],
            ..BoundaryDocument::default()
        };
        let mut out = String::new();
        denied(&mut out, "Denied", &boundary_document, &Allowed::default()).unwrap();
        allowed(&mut out, &boundary_document).unwrap();
        assert_eq!(out.matches("\n## ").count(), 2, "{out}");
        assert!(!out.contains(['\u{202e}', '\u{200b}']), "{out}");
        for line in out.lines().filter(|line| line.contains("evil")) {
            // Nothing of the text is outside the code spans.
            let mut outside = String::new();
            let mut open = None;
            for word in line.split(' ') {
                let is_fence = !word.is_empty() && word.bytes().all(|byte| byte == b'`');
                match open {
                    None if is_fence => open = Some(word),
                    Some(fence) if word == fence => open = None,
                    Some(_) => {}
                    None => outside.push_str(word),
                }
            }
            assert_eq!(open, None, "{line}");
            assert!(outside.chars().all(|c| "|1".contains(c)), "{outside}");
        }
    }
}
