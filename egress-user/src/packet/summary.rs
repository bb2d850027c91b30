//! `summary.md`: the packet for people, safe to show as Markdown.
//!
//! Everything that the agent or the evidence can influence stands in a code span inside a table
//! cell: no link, mention, image or HTML comes out of it.
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use super::model::Packet;
use crate::receipt::findings::visible;
use crate::receipt::report::{End, Report};

/// Rows shown of one list.
const MAX_ROWS: usize = 100;
/// Characters shown of one text.
const MAX_CHARACTERS: usize = 200;

/// Renders the summary.
pub fn render(packet: &Packet, report: &Report) -> String {
    let mut out = String::new();
    let written = write(&mut out, packet, report);
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

fn write(out: &mut String, packet: &Packet, report: &Report) -> std::fmt::Result {
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
    row(
        out,
        "Actions",
        format!("{}, {} blocked", counts.actions, counts.blocked_actions),
    )?;
    row(out, "Receipts", packet.summary.receipt_count)?;
    optional(out, "Signer", verifier.signer_key.as_deref())?;
    optional(out, "Root hash", verifier.root_hash.as_deref())?;
    optional(out, "Error", verifier.error.as_deref())?;
    let domains: Vec<&String> = counts.domains.iter().collect();
    list(out, "Destinations", &domains)?;
    map(out, "Receipts by transport", &counts.transports)?;
    map(out, "Blocked by layer", &counts.layers)?;
    let open: Vec<&String> = packet.posture.unsupported_paths.iter().collect();
    list(out, "Not enforced", &open)
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
}
