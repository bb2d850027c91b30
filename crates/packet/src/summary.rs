//! `summary.md`: the packet for people, safe to render as Markdown.
//!
//! Text that the command or the evidence can influence is always in a code span, so it cannot become a link, mention,
//! image, or HTML.
use std::fmt::Write;

use pipelock_receipts::findings::visible;

use super::activity::Traffic;
use super::headline::Headline;
use super::held_back;
use super::hint::Block;
use super::listing::{LISTED, allowed_in_order, in_order, place};
use super::shown::{ANSWERED, ANSWERED_NOTE, HELD_BACK, Shown, process, what, why};

const MAX_CHARACTERS: usize = 200;
/// Length of one list in bytes. Rows beyond this length are only counted. GitHub limits a job summary to 1 MiB.
const MAX_BYTES: usize = 64 << 10;
/// Maximum number of requests.
const REQUESTS: usize = 20;

/// Returns the summary as Markdown.
pub fn render(shown: &Shown<'_>) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    write(&mut out, shown).map_or_else(|_error| String::new(), |()| out)
}

fn write(out: &mut String, shown: &Shown<'_>) -> std::fmt::Result {
    let Headline { tone, sentence } = Headline::of(shown);
    writeln!(out, "# {} {sentence}", tone.icon())?;
    if let Some((what, why)) = shown.because() {
        write!(out, "\n{what}: {}\n", code(&why))?;
    }
    denied(out, shown)?;
    not_applied(out, shown)?;
    answered(out, shown)?;
    allowed(out, shown)?;
    requests(out, shown)?;
    for (title, items) in shown.remarks() {
        if !items.is_empty() {
            let rows = items.iter().map(|item| format!("- {}", code(item)));
            section(out, title, "", rows, 0)?;
        }
    }
    out.push_str("\n## The run\n");
    pairs(out, &shown.about())?;
    if let Some((command, fill_in)) = shown.check_command() {
        write!(
            out,
            "\n## Check it\n\nRun this on another machine, offline:\n\n```sh\n{command}\n```\n\n{fill_in}\n"
        )?;
    }
    out.push_str("\n<details>\n<summary>Hashes, keys, and counts</summary>\n");
    pairs(out, &shown.evidence())?;
    out.push_str("\n</details>\n\n<details>\n<summary>Posture and probes</summary>\n");
    pairs(out, &shown.posture())?;
    probes(out, shown)?;
    out.push_str("\n</details>\n");
    Ok(())
}

fn denied(out: &mut String, shown: &Shown<'_>) -> std::fmt::Result {
    let denied = shown.hinted();
    if denied.is_empty() {
        return Ok(());
    }
    let rows = denied.iter().map(|(row, hint)| {
        let attempt = &row.attempt;
        let settings = hint.settings().as_deref().map(code).unwrap_or_default();
        // A note consists of constants of this crate.
        let note = hint.note.as_deref().unwrap_or_default();
        format!(
            "| {} | {} | {} | {} | {} |",
            code(&attempt.target()),
            code(process(&attempt.process)),
            row.count,
            [why(attempt), code(&attempt.why())].join(" ").trim(),
            [settings.as_str(), note].join(" ").trim()
        )
    });
    let head = "| Destination | Process | Count | Why | To allow it |\n|---|---|---|---|---|\n";
    let left_out = shown.boundary_document.denied_left_out;
    section(out, shown.denied_title(), head, rows, left_out)?;
    let hints = denied.iter().map(|(_, hint)| hint);
    let Some(block) = Block::of(hints, left_out) else {
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

fn not_applied(out: &mut String, shown: &Shown<'_>) -> std::fmt::Result {
    let held = shown.held_back;
    if held.count == 0 {
        return Ok(());
    }
    let rows = held.changes.iter().map(|change| {
        let path = if change.path.is_empty() {
            "."
        } else {
            &change.path
        };
        // The text of an operating system error is not a constant.
        let reason = code(held_back::reason(change));
        format!("| {} | {} | {reason} |", code(path), code(&what(change)))
    });
    let head = "| Path | Change | Why |\n|---|---|---|\n";
    let listed = u64::try_from(held.changes.len()).unwrap_or(u64::MAX);
    section(
        out,
        HELD_BACK,
        head,
        rows,
        held.count.saturating_sub(listed),
    )
}

fn answered(out: &mut String, shown: &Shown<'_>) -> std::fmt::Result {
    let document = shown.boundary_document;
    if document.answered.is_empty() {
        return Ok(());
    }
    let rows = in_order(&document.answered).into_iter().map(|row| {
        let attempt = &row.attempt;
        format!(
            "| {} | {} | {} | {} |",
            code(&attempt.target()),
            code(process(&attempt.process)),
            row.count,
            code(&attempt.why())
        )
    });
    let head = "| Destination | Process | Count | Answer |\n|---|---|---|---|\n";
    let head = format!("{ANSWERED_NOTE}\n\n{head}");
    section(out, ANSWERED, &head, rows, document.answered_left_out)
}

fn allowed(out: &mut String, shown: &Shown<'_>) -> std::fmt::Result {
    let rows = allowed_in_order(shown.boundary_document);
    if rows.is_empty() {
        return Ok(());
    }
    let rows = rows.into_iter().map(|row| {
        let name = place(&row.host, row.port);
        let programs = shown.activity.destinations.get(&name);
        let programs = programs.iter().flat_map(|one| one.0.iter());
        let mut sum = Traffic::default();
        let mut names = Vec::new();
        for (name, talk) in programs.filter(|(_, talk)| talk.allowed.count > 0) {
            sum.add(&talk.allowed);
            names.push(code(process(name)));
        }
        names.truncate(4);
        format!(
            "| {} | {} | {} | {} | {} | {} |",
            code(&name),
            names.join(" "),
            row.count,
            shown.carried(sum.sent),
            shown.carried(sum.received),
            shown.times(&sum).unwrap_or_default()
        )
    });
    let head = "| Destination | Process | Count | Sent | Received | First to last |\n|---|---|---|---|---|---|\n";
    let left_out = shown.boundary_document.allowed_left_out;
    section(out, shown.allowed_title(), head, rows, left_out)
}

fn requests(out: &mut String, shown: &Shown<'_>) -> std::fmt::Result {
    let (requests, left_out) = shown.activity.requests_in_order(REQUESTS);
    if requests.is_empty() {
        return Ok(());
    }
    let rows = requests.into_iter().map(|(request, talk)| {
        format!(
            "| {} | {} | {} | {} |",
            code(&request.target),
            request.read_in(),
            talk.allowed.count,
            talk.denied.count
        )
    });
    let head = "| Request | Read in | Allowed | Denied |\n|---|---|---|---|\n";
    section(out, "Requests that could be read", head, rows, left_out)
}

fn probes(out: &mut String, shown: &Shown<'_>) -> std::fmt::Result {
    let outcomes = shown.probes();
    if outcomes.is_empty() {
        return Ok(());
    }
    out.push_str(
        "\nProbes inside the boundary before the start:\n\n| Outcome | Probes |\n|---|---|\n",
    );
    for (outcome, names) in outcomes {
        let names: Vec<String> = names.into_iter().take(LISTED).map(code).collect();
        writeln!(out, "| {} | {} |", code(outcome), names.join(" "))?;
    }
    Ok(())
}

/// Writes rows under a title. `left_out` counts rows that the source left out.
fn section(
    out: &mut String,
    title: &str,
    head: &str,
    rows: impl Iterator<Item = String>,
    left_out: u64,
) -> std::fmt::Result {
    write!(out, "\n## {title}\n\n{head}")?;
    let most = out.len().saturating_add(MAX_BYTES);
    let mut rest = left_out;
    for (number, row) in rows.enumerate() {
        if number >= LISTED || out.len() > most {
            rest = rest.saturating_add(1);
        } else {
            writeln!(out, "{row}")?;
        }
    }
    if rest > 0 {
        writeln!(out, "\nand {rest} more")?;
    }
    Ok(())
}

fn pairs(out: &mut String, rows: &[(&'static str, String)]) -> std::fmt::Result {
    out.push_str("\n| | |\n|---|---|\n");
    for (name, value) in rows {
        writeln!(out, "| {name} | {} |", code(value))?;
    }
    Ok(())
}

/// Returns a code span for a table cell. Control characters are made visible, the fence is longer than any run of
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
    fn long_lists_end_early_and_are_counted() {
        let mut out = String::new();
        let rows = (0..200).map(|_| String::from("| x |"));
        section(&mut out, "Title", "", rows, 7).unwrap();
        assert!(out.ends_with("| x |\n\nand 107 more\n"), "{out}");
        let mut out = String::new();
        let rows = (0..50).map(|_| "y".repeat(MAX_BYTES / 11 + 1));
        section(&mut out, "Title", "", rows, 0).unwrap();
        assert!(out.ends_with("y\n\nand 39 more\n"), "{}", out.len());
    }
}
