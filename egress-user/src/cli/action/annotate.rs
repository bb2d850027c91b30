//! Annotations: commands to the runner, so nothing in their text may be one itself.
use pipelock_receipts::findings::visible;

use crate::neutralise::harmless;

/// Annotations of one step. GitHub shows ten of a kind; more would push each other out.
const MOST: usize = 10;

/// Longest text of one.
const MAX_CHARACTERS: usize = 1000;

/// How loud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Fails the step.
    Error,
    /// To be looked at.
    Warning,
}

/// What the step will tell.
#[derive(Debug, Default)]
pub(super) struct Annotations {
    entries: Vec<(Level, String)>,
}

impl Annotations {
    /// Adds one. Its text may hold anything.
    pub(super) fn add(&mut self, level: Level, text: &str) {
        self.entries.push((level, text.to_owned()));
    }

    /// The commands, errors first, as many as are shown.
    pub(super) fn render(mut self) -> String {
        // Stable: what was said first stays first.
        self.entries.sort_by_key(|(level, _)| *level);
        let mut out = String::new();
        for (level, text) in self.entries.iter().take(MOST) {
            let command = match level {
                Level::Error => "error",
                Level::Warning => "warning",
            };
            let line = format!("::{command} title=egress::{}\n", data(text));
            out.push_str(&line);
        }
        out
    }
}

/// A text as the data of a command: one line, control characters visible, percent signs escaped.
fn data(text: &str) -> String {
    let mut text = visible(text);
    if let Some((at, _)) = text.char_indices().nth(MAX_CHARACTERS) {
        text.truncate(at);
        text.push('…');
    }
    // The older form of a command is obeyed anywhere in a line.
    harmless(&text)
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_become_a_command_of_its_own() {
        let mut annotations = Annotations::default();
        annotations.add(Level::Warning, "a\r\n::add-mask::x%0A::error::y");
        let text = annotations.render();
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with("::warning title=egress::a"), "{text}");
        assert!(text.contains("%250A"), "{text}");
    }

    #[test]
    fn errors_come_first_and_ten_are_shown() {
        let mut annotations = Annotations::default();
        for number in 0..20 {
            annotations.add(Level::Warning, &number.to_string());
        }
        annotations.add(Level::Error, "last");
        let text = annotations.render();
        assert_eq!(text.lines().count(), 10);
        assert!(text.starts_with("::error title=egress::last\n"), "{text}");
    }
}
