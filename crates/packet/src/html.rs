//! `report.html`: the packet for people, in one self-contained page.
//!
//! The page has no script, link, or other resource, and the page's content security policy forbids
//! them. Every text passes through `escaped`, even a text that nobody hostile can influence.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pipelock_receipts::findings::visible;
use pipelock_receipts::report::End;
use serde_json::Value;

use super::residual::{Residual, Through};
use sha2::{Digest, Sha256};

use super::hint::Block;
use super::model::Packet;
use super::summary::{ANSWERED, ANSWERED_NOTE, Shown, allowed_in_order, hinted, in_order};

const MAX_ROWS: usize = 500;
const MAX_CHARACTERS: usize = 300;
/// The style of the page. The page's content security policy allows only the digest of this style.
const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222;\
background:#fff}table{border-collapse:collapse;margin:.5em 0 1.5em}th,td{border:1px solid #bbb;\
padding:.25em .6em;text-align:left;vertical-align:top;overflow-wrap:anywhere}th{background:#eee}\
td,pre{font-family:monospace}pre{background:#eee;padding:.6em;overflow:auto}";

/// Returns the page as HTML text.
pub fn render(shown: &Shown<'_>) -> String {
    let boundary_document = shown.boundary_document;
    let mut out = Html::start();
    out.raw("<h1>Audit Packet</h1>\n<p>");
    out.text("This page is for reading. It proves nothing, because anybody can write such a page. The last section shows how to check the packet.");
    out.raw("</p>\n");
    head(&mut out, shown);
    let reasons = &shown.graded.reasons;
    out.list("Why the boundary is not graded higher", reasons);
    out.list("The record is incomplete", &boundary_document.incomplete);
    out.list("Notices", &boundary_document.notices);
    let denied = hinted(boundary_document, shown.allowed);
    out.table(
        shown.denied_title(),
        &["Destination", "Process", "Count", "Why", "To allow it"],
        denied.iter().map(|(row, hint)| {
            let attempt = &row.attempt;
            let settings = hint.settings().unwrap_or_default();
            let hint = [&settings, hint.note.unwrap_or_default()].join(" ");
            let process = attempt.process.clone();
            let count = row.count.to_string();
            [
                attempt.target(),
                process,
                count,
                attempt.why(),
                hint.trim().to_owned(),
            ]
        }),
        boundary_document.denied_left_out,
    );
    if let Some(block) = Block::of(denied.iter().map(|(_, hint)| hint)) {
        out.raw("<p>");
        out.text("To allow them all:");
        out.raw("</p>\n");
        for text in [block.policy.trim_end(), &block.options] {
            if !text.is_empty() {
                out.raw("<pre>");
                for line in text.lines() {
                    out.text(line);
                    out.raw("\n");
                }
                out.raw("</pre>\n");
            }
        }
    }
    if !boundary_document.answered.is_empty() {
        out.table(
            ANSWERED,
            &["Destination", "Process", "Count", "Answer"],
            in_order(&boundary_document.answered)
                .into_iter()
                .map(|row| {
                    let attempt = &row.attempt;
                    let (process, count) = (attempt.process.clone(), row.count.to_string());
                    [attempt.target(), process, count, attempt.why()]
                }),
            boundary_document.answered_left_out,
        );
        out.raw("<p>");
        out.text(ANSWERED_NOTE);
        out.raw("</p>\n");
    }
    out.table(
        "Allowed",
        &["Destination", "Count"],
        allowed_in_order(boundary_document)
            .into_iter()
            .map(|row| [format!("{}:{}", row.host, row.port), row.count.to_string()]),
        boundary_document.allowed_left_out,
    );
    posture(&mut out, shown.packet);
    let probes = boundary_document.probes.results.iter();
    out.table(
        "Probes inside the boundary before the start",
        &["Probe", "Outcome"],
        probes.map(|probe| [probe.name.to_string(), probe.outcome.to_string()]),
        0,
    );
    channels(&mut out, &boundary_document.residual_channels);
    out.raw("<h2>Check it</h2>\n<p>");
    out.text("Run this on another machine, offline, with keys that you keep yourself:");
    out.raw("</p>\n<pre>");
    out.text(&shown.check_command());
    out.raw("</pre>\n</body>\n</html>\n");
    out.0
}

fn head(out: &mut Html, shown: &Shown<'_>) {
    let Shown { packet, report, .. } = shown;
    let verdict = serde_json::to_value(packet.verifier.verdict).unwrap_or_default();
    let end = match report.end {
        End::Proven => "proven",
        End::Unproven(reason) => reason,
    };
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let run = &packet.run;
    let counts = &report.counts;
    let rows = [
        ("Verdict", verdict.as_str().unwrap_or_default().to_owned()),
        ("End of the evidence", end.to_owned()),
        ("Boundary", shown.graded.grade.to_string()),
        ("Boundary signed by", shown.boundary_signer().to_owned()),
        (
            "Actions",
            format!("{}, {} denied", counts.actions, counts.blocked_actions),
        ),
        ("Receipts", packet.summary.receipt_count.to_string()),
        ("Agent", run.agent_identity.clone()),
        ("Repository", optional(&run.repository)),
        ("Workflow", optional(&run.workflow)),
        ("Commit", optional(&run.sha)),
        ("Started", run.started_at.clone()),
        ("Completed", optional(&run.completed_at)),
        (
            "Exit status of the command",
            run.agent_exit_code
                .map_or_else(String::new, |code| code.to_string()),
        ),
        ("Signer", optional(&packet.verifier.signer_key)),
        ("Root hash", optional(&packet.verifier.root_hash)),
        ("Error", optional(&packet.verifier.error)),
        ("SHA-256 of packet.json", shown.packet_sha256.to_owned()),
    ];
    let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
    out.table(
        "Verdict",
        &["", ""],
        rows.map(|(name, value)| [name.to_owned(), value]),
        0,
    );
}

fn posture(out: &mut Html, packet: &Packet) {
    let words = serde_json::to_value(&packet.posture).unwrap_or_default();
    let rows = words.as_object().into_iter().flatten();
    let rows = rows.filter_map(|(name, value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Array(items) => {
                let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                items.join(", ")
            }
            Value::Null => return None,
            Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
        };
        Some([name.clone(), text])
    });
    out.table("Posture", &["", ""], rows, 0);
}

/// Writes the channels that are open on purpose, and the traffic through them.
fn channels(out: &mut Html, channels: &Residual) {
    let through = |name: &str, through: &Through| {
        let numbers = [
            through.requests,
            through.bytes_up,
            through.bytes_down,
            through.target_bytes,
            through.head_bytes,
        ];
        let [requests, up, down, targets, heads] = numbers.map(|number| number.to_string());
        [name.to_owned(), requests, up, down, targets, heads]
    };
    let hosts = channels.allowed_hosts.iter();
    let more = [
        through("(other hosts)", &channels.other_hosts),
        through("(denied by the mediator)", &channels.blocked),
    ];
    out.table(
        "Residual channels",
        &[
            "Host",
            "Requests",
            "Bytes from the command",
            "Bytes to the command",
            "Bytes of targets",
            "Bytes of heads",
        ],
        hosts.map(|(host, bytes)| through(host, bytes)).chain(more),
        0,
    );
    out.raw("<p>");
    out.text(&format!(
        "Names that were answered inside the boundary and did not leave it: {}, {} bytes.",
        channels.names, channels.name_bytes
    ));
    out.raw("</p>\n");
}

struct Html(String);

impl Html {
    fn start() -> Self {
        let digest = STANDARD.encode(Sha256::digest(STYLE));
        Self(format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
             'sha256-{digest}'; base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n\
             <title>Audit Packet</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        ))
    }

    /// Adds markup. The markup is always a constant of this file.
    fn raw(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    fn text(&mut self, text: &str) {
        self.0.push_str(&escaped(text));
    }

    /// Adds a table under its title, unless there are no rows. `left_out` counts rows that the source left out.
    fn table<const N: usize>(
        &mut self,
        title: &'static str,
        head: &[&'static str; N],
        rows: impl Iterator<Item = [String; N]>,
        left_out: u64,
    ) {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return;
        }
        self.raw("<h2>");
        self.text(title);
        self.raw("</h2>\n<table>\n");
        if head.iter().any(|cell| !cell.is_empty()) {
            self.row(["<th>", "</th>"], head.iter().copied());
        }
        for row in rows.by_ref().take(MAX_ROWS) {
            self.row(["<td>", "</td>"], row.iter().map(String::as_str));
        }
        self.raw("</table>\n");
        let rest = u64::try_from(rows.count()).unwrap_or(u64::MAX);
        match rest.saturating_add(left_out) {
            0 => {}
            rest => {
                self.raw("<p>");
                self.text(&format!("and {rest} more"));
                self.raw("</p>\n");
            }
        }
    }

    /// Adds a row of cells, each between these two tags.
    fn row<'t>(&mut self, cell: [&'static str; 2], texts: impl Iterator<Item = &'t str>) {
        self.raw("<tr>");
        for text in texts {
            self.raw(cell[0]);
            self.text(&shortened(text));
            self.raw(cell[1]);
        }
        self.raw("</tr>\n");
    }

    fn list(&mut self, title: &'static str, items: &[impl ToString]) {
        let rows = items.iter().map(|item| [item.to_string()]);
        self.table(title, &[""], rows, 0);
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARACTERS) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
    }
}

/// Escapes a text so that it cannot be markup, end an attribute, or change the reading direction.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in visible(text).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
