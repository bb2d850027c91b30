//! Colors of the output for people. The words at the beginning of a line, which name its subject, are colored.
//!
//! The output is colored if its stream is a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`. `CLICOLOR_FORCE`
//! always colors it, and `CLICOLOR=0` never does. No line begins with text of the command, so the command cannot choose
//! a color.
use std::io;

use anstream::{AutoStream, ColorChoice};

const RED: &str = "\x1b[1;31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// Beginnings of lines with their colors. The first match counts.
const BEGINNINGS: [(&str, &str); 21] = [
    ("error:", RED),
    ("failed:", RED),
    ("missing ", RED),
    ("verdict:     INVALID", RED),
    ("egress: incomplete", RED),
    ("egress: verdict   invalid", RED),
    ("egress: verdict   error", RED),
    ("left ", YELLOW),
    ("untried ", YELLOW),
    ("warning ", YELLOW),
    ("egress: AUDIT MODE", YELLOW),
    ("egress: accepted", YELLOW),
    ("egress: answered", YELLOW),
    ("egress: denied", YELLOW),
    ("egress: not applied", YELLOW),
    ("egress: warning", YELLOW),
    ("egress: would deny", YELLOW),
    ("ok ", GREEN),
    ("verdict:     VALID", GREEN),
    ("egress: verdict   valid", GREEN),
    ("hint:", CYAN),
];

/// Returns the text for standard error.
pub(super) fn stderr(text: String) -> String {
    painted(text, AutoStream::choice(&io::stderr()))
}

/// Returns the text for standard output.
pub(super) fn stdout(text: String) -> String {
    painted(text, AutoStream::choice(&io::stdout()))
}

fn painted(text: String, choice: ColorChoice) -> String {
    if choice == ColorChoice::Never {
        return text;
    }
    let lines = text.split_inclusive('\n').map(|line| {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let (space, rest) = line.split_at(indent);
        let found = BEGINNINGS.iter().find_map(|(beginning, color)| {
            let after = rest.strip_prefix(beginning)?;
            Some(format!("{space}{color}{beginning}{RESET}{after}"))
        });
        found.unwrap_or_else(|| line.to_owned())
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_beginnings_of_lines_are_colored() {
        let text = "error: a\n  hint: b\nok       x\nb error: c\nhints: d\n";
        let colored = "\x1b[1;31merror:\x1b[0m a\n  \x1b[36mhint:\x1b[0m b\n\x1b[32mok \x1b[0m      x\nb error: c\nhints: d\n";
        assert_eq!(painted(text.into(), ColorChoice::Always), colored);
        assert_eq!(painted(text.into(), ColorChoice::Never), text);
    }
}
