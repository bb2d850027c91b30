//! `summary.md`: the packet for people, safe to show as Markdown.
//!
//! Everything that the agent or the evidence can influence stands in a code span inside a table
//! cell: no link, mention, image or HTML comes out of it.
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use super::AUDIT_ENFORCEMENT;
use super::grade::Graded;
use super::model::Packet;
use crate::receipt::findings::visible;
use crate::receipt::report::{End, Report};

/// Rows shown of one list.
const MAX_ROWS: usize = 100;
/// Characters shown of one text.
const MAX_CHARACTERS: usize = 200;

/// What a run saw and the packet's own fields do not say.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Refused attempts, in the order in which they are shown.
    pub denied: Vec<Refused>,
    /// Host, port and number of the connections that went through.
    pub allowed: Vec<(String, u16, u64)>,
    /// Probes of the boundary: what was tried, and what came of it.
    pub probes: Vec<(String, &'static str)>,
    /// How far the packet shows the boundary.
    pub graded: Option<Graded>,
    /// SHA-256 of `packet.json`.
    pub packet_sha256: String,
    /// Name of the packet's directory.
    pub directory: String,
    /// Public half of the boundary's key, if the caller named one.
    pub boundary_key: Option<String>,
}

/// Attempts that were refused alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    /// Host name or address, with the port; or the protocol, where there is neither.
    pub destination: String,
    /// Name of the process.
    pub process: String,
    /// Protocol and reason.
    pub reason: String,
    /// What would let it through, where something would.
    pub remedy: Option<String>,
    /// How many.
    pub count: u64,
}

/// Renders the summary.
pub fn render(packet: &Packet, report: &Report, observed: &Observed) -> String {
    let mut out = String::new();
    let written = write(&mut out, packet, report, observed);
    // Writing to a string cannot fail.
    written.map_or_else(|_error| String::new(), |()| out)
}

/// A further list for the end of a summary; nothing when there are no `items`.
pub fn section(title: &str, items: &[String]) -> String {
    let mut out = String::new();
    let items: Vec<&String> = items.iter().collect();
    let written = list(&mut out, title, &items);
    written.map_or_else(|_error| String::new(), |()| out)
}

fn write(
    out: &mut String,
    packet: &Packet,
    report: &Report,
    observed: &Observed,
) -> std::fmt::Result {
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
        row(out, "Exit status of the agent", code)?;
    }
    row(out, "Enforcement", &packet.posture.enforcement_mode)?;
    if let Some(graded) = &observed.graded {
        row(out, "Boundary", graded.grade)?;
        row(out, "Boundary signed by", boundary_signer(observed))?;
    }
    row(
        out,
        "Actions",
        format!("{}, {} blocked", counts.actions, counts.blocked_actions),
    )?;
    row(out, "Receipts", packet.summary.receipt_count)?;
    optional(out, "Signer", verifier.signer_key.as_deref())?;
    optional(out, "Root hash", verifier.root_hash.as_deref())?;
    optional(out, "Error", verifier.error.as_deref())?;
    let digest = Some(observed.packet_sha256.as_str()).filter(|text| !text.is_empty());
    optional(out, "SHA-256 of packet.json", digest)?;
    let title = match packet.posture.enforcement_mode.as_str() {
        AUDIT_ENFORCEMENT => "Would be denied",
        _ => "Denied",
    };
    denied(out, title, &observed.denied)?;
    allowed(out, &observed.allowed)?;
    let reasons: Vec<&String> = observed
        .graded
        .iter()
        .flat_map(|graded| &graded.reasons)
        .collect();
    list(out, "Why the boundary is not graded higher", &reasons)?;
    let domains: Vec<&String> = counts.domains.iter().collect();
    list(out, "Destinations in the receipts", &domains)?;
    map(out, "Receipts by transport", &counts.transports)?;
    map(out, "Blocked by layer", &counts.layers)?;
    let open: Vec<&String> = packet.posture.unsupported_paths.iter().collect();
    list(out, "Not enforced", &open)?;
    measured(out, packet, &observed.probes)?;
    check_it(out, packet, observed)
}

/// Whose key vouches for the boundary.
pub(super) fn boundary_signer(observed: &Observed) -> &str {
    let named = observed.boundary_key.as_deref();
    named.unwrap_or("a key of this run, which nobody can pin")
}

fn denied(out: &mut String, title: &str, rows: &[Refused]) -> std::fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    write!(out, "\n## {title}\n")?;
    out.push_str(
        "\n| Destination | Process | Count | Why | To allow it |\n|---|---|---|---|---|\n",
    );
    for row in rows.iter().take(MAX_ROWS) {
        let remedy = row.remedy.as_deref().map(code).unwrap_or_default();
        writeln!(
            out,
            "| {} | {} | {} | {} | {remedy} |",
            code(&row.destination),
            code(&row.process),
            row.count,
            code(&row.reason)
        )?;
    }
    more(out, rows.len())
}

fn allowed(out: &mut String, rows: &[(String, u16, u64)]) -> std::fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    out.push_str("\n## Allowed\n\n| Destination | Count |\n|---|---|\n");
    for (host, port, count) in rows.iter().take(MAX_ROWS) {
        writeln!(out, "| {} | {count} |", code(&format!("{host}:{port}")))?;
    }
    more(out, rows.len())
}

/// The posture's words, and the probes that they follow from.
fn measured(out: &mut String, packet: &Packet, probes: &[(String, &str)]) -> std::fmt::Result {
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
    if probes.is_empty() {
        return Ok(());
    }
    let mut outcomes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, outcome) in probes {
        outcomes.entry(outcome).or_default().push(name);
    }
    writeln!(
        out,
        "\nMeasured inside the boundary before the start:\n\n| Outcome | Probes |\n|---|---|"
    )?;
    for (outcome, names) in outcomes {
        let names: Vec<String> = names.into_iter().map(code).collect();
        writeln!(out, "| {} | {} |", code(outcome), names.join(" "))?;
    }
    Ok(())
}

fn check_it(out: &mut String, packet: &Packet, observed: &Observed) -> std::fmt::Result {
    out.push_str(
        "\n## Check it\n\nOn another machine, offline, with the keys from a place of your own:\n\n",
    );
    writeln!(out, "```sh\n{}\n```", check_command(packet, observed))
}

/// The command that checks the packet anywhere, if its words need no quotes.
pub(super) fn check_command(packet: &Packet, observed: &Observed) -> String {
    let plain = |text: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_plain)
    };
    let directory = Some(observed.directory.as_str()).filter(|text| plain(text));
    let key = packet.verifier.signer_key.as_deref();
    let trust = match key.filter(|key| plain(key)) {
        Some(key) => format!("--key {key}"),
        None => String::from("--allow-unpinned"),
    };
    let mut command = format!("egress verify {} {trust}", directory.unwrap_or("PACKET"));
    if let Some(key) = observed.boundary_key.as_deref().filter(|key| plain(key)) {
        command.push_str(" --boundary-key ");
        command.push_str(key);
    }
    command
}

fn row(out: &mut String, name: &str, value: impl Display) -> std::fmt::Result {
    writeln!(out, "| {name} | {} |", code(&value.to_string()))
}

fn optional(out: &mut String, name: &str, value: Option<&str>) -> std::fmt::Result {
    value.map_or(Ok(()), |value| row(out, name, value))
}

fn list(out: &mut String, title: &str, items: &[&String]) -> std::fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## {title}\n\n| |\n|---|")?;
    for item in items.iter().take(MAX_ROWS) {
        writeln!(out, "| {} |", code(item))?;
    }
    more(out, items.len())
}

fn map(out: &mut String, title: &str, map: &BTreeMap<String, u64>) -> std::fmt::Result {
    if map.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## {title}\n\n| | |\n|---|---|")?;
    for (name, count) in map.iter().take(MAX_ROWS) {
        writeln!(out, "| {} | {count} |", code(name))?;
    }
    more(out, map.len())
}

fn more(out: &mut String, length: usize) -> std::fmt::Result {
    match length.saturating_sub(MAX_ROWS) {
        0 => Ok(()),
        rest => writeln!(out, "\nand {rest} more in packet.json"),
    }
}

/// A code span for a table cell: control characters made visible, a fence longer than any run of
/// backticks inside, cell separators escaped.
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
    fn hostile_names_stay_text() {
        let hostile =
            "`x`](https://evil.test) <img src=x> @team #1 | \u{202e}\u{200b}\n## Verdict: valid";
        let mut out = String::new();
        let row = Refused {
            destination: hostile.into(),
            process: hostile.into(),
            reason: hostile.into(),
            remedy: Some(hostile.into()),
            count: 1,
        };
        denied(&mut out, "Denied", &[row]).unwrap();
        allowed(&mut out, &[(hostile.into(), 443, 1)]).unwrap();
        assert_eq!(out.matches("\n## ").count(), 2, "{out}");
        assert!(!out.contains(['\u{202e}', '\u{200b}']), "{out}");
        for line in out.lines().filter(|line| line.contains("evil")) {
            // Outside of the code spans nothing of it is left.
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
