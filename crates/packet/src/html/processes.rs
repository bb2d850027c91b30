//! Writes the programs of the command as a tree: command, program, destination.
use egress_policy::natural;

use super::super::activity::{Talk, Traffic};
use super::super::shown::{Shown, bytes, process};
use super::markup::{Html, LONG, SHORT};

/// Maximum number of destinations per program.
const DESTINATIONS: usize = 8;
/// Maximum number of process ids per program.
const PROCESSES: usize = 12;

pub(super) fn write(out: &mut Html, shown: &Shown<'_>) {
    let activity = shown.activity;
    if activity.programs.is_empty() {
        return;
    }
    out.section("Processes");
    out.paragraph("The programs that used the network, below the command that started them. The flow log does not record which process started which.");
    let command = shown.packet.posture.script_basename.as_deref();
    out.raw("<ul class=\"tree\">\n<li>");
    out.code(command.unwrap_or("command"));
    out.raw("\n<ul>\n");
    let mut programs: Vec<_> = activity.programs.iter().collect();
    programs.sort_by(|(a, _), (b, _)| natural::compare(a, b));
    let most = out.len().saturating_add(LONG.bytes);
    let mut left_out = 0_u64;
    for (name, program) in programs {
        if out.len() > most {
            left_out = left_out.saturating_add(1);
            continue;
        }
        out.raw("<li>");
        out.code(process(name));
        for executable in program.executables.iter().filter(|path| *path != name) {
            out.raw(" ");
            out.code(executable);
        }
        let ids = program.processes.iter().take(PROCESSES);
        let ids: Vec<String> = ids.map(ToString::to_string).collect();
        let more = match program.processes.len().checked_sub(PROCESSES) {
            Some(_) if program.is_cut() => ", …",
            Some(1..) => ", and more",
            Some(0) | None => "",
        };
        if !ids.is_empty() {
            out.text(&format!(", process {}{more}", ids.join(", ")));
        }
        out.text(&format!(": {}", in_words(&program.talk)));
        destinations(out, shown, name, &program.talk);
        out.raw("</li>\n");
    }
    out.raw("</ul>\n</li>\n</ul>\n");
    out.more(left_out);
    out.raw("</section>\n");
}

/// Writes the destinations of a program, whose traffic is `all`, and how many destinations are left out.
fn destinations(out: &mut Html, shown: &Shown<'_>, program: &str, all: &Talk) {
    let listed = shown.activity.destinations.iter();
    let used = listed.filter_map(|(name, destination)| Some((name, destination.0.get(program)?)));
    let mut used: Vec<(&String, &Talk)> = used.collect();
    used.sort_by(|(a, _), (b, _)| natural::compare(a, b));
    if used.is_empty() {
        return;
    }
    let most = out.len().saturating_add(SHORT.bytes);
    out.raw("\n<ul>\n");
    let mut written = 0_usize;
    for (name, talk) in used.iter().take(DESTINATIONS) {
        if out.len() > most {
            break;
        }
        written = written.saturating_add(1);
        out.raw("<li>");
        out.code(name);
        out.text(&format!(": {}", in_words(talk)));
        out.raw("</li>\n");
    }
    out.raw("</ul>\n");
    let rest = used.len().saturating_sub(written);
    let counts = used.iter().map(|(_, talk)| talk.count());
    // Traffic to destinations without an entry is only in the sum of the program, so their number is not known.
    if counts.fold(0, u64::saturating_add) < all.count() {
        match rest {
            0 => out.note("and more"),
            rest => out.note(&format!("and at least {rest} more")),
        }
    } else {
        out.more(u64::try_from(rest).unwrap_or(u64::MAX));
    }
}

/// Returns traffic in words, for example `2 allowed (1 KiB sent, 3 MiB received), 1 denied`.
fn in_words(talk: &Talk) -> String {
    let mut parts = Vec::new();
    let Traffic {
        count,
        sent,
        received,
        ..
    } = talk.allowed;
    if count > 0 {
        let carried = match (sent, received) {
            (0, 0) => String::new(),
            _ => format!(" ({} sent, {} received)", bytes(sent), bytes(received)),
        };
        parts.push(format!("{count} allowed{carried}"));
    }
    if talk.denied.count > 0 {
        parts.push(format!("{} denied", talk.denied.count));
    }
    parts.join(", ")
}
