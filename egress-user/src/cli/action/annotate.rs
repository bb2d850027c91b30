//! Annotations, which are workflow commands to the runner. The text of an annotation is escaped so that it cannot
//! contain another command.
use pipelock_receipts::findings::visible;

use crate::ci_commands::harmless;

/// Maximum number of annotations of a step. GitHub shows ten of each level.
const MOST: usize = 10;

/// Maximum length of an annotation.
const MAX_CHARACTERS: usize = 1000;

/// Level of an annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// The reason why the step fails.
    Error,
    /// Something that a reviewer should check.
    Warning,
    /// Something that the author of the workflow can improve.
    Notice,
}

/// The annotations of a step.
#[derive(Debug, Default)]
pub(super) struct Annotations {
    entries: Vec<(Level, String)>,
}

impl Annotations {
    /// Adds an annotation. The caller need not escape its text.
    pub(super) fn add(&mut self, level: Level, text: &str) {
        self.entries.push((level, text.to_owned()));
    }

    /// Returns the workflow commands of the first [`MOST`] annotations, errors first.
    pub(super) fn render(mut self) -> String {
        // The sort is stable and keeps the order within a level.
        self.entries.sort_by_key(|(level, _)| *level);
        let mut out = String::new();
        for (level, text) in self.entries.iter().take(MOST) {
            let command = match level {
                Level::Error => "error",
                Level::Warning => "warning",
                Level::Notice => "notice",
            };
            let line = format!("::{command} title=egress::{}\n", data(text));
            out.push_str(&line);
        }
        out
    }
}

/// Escapes a text for a workflow command: one line, visible control characters, escaped percent signs.
fn data(text: &str) -> String {
    let mut text = visible(text);
    if let Some((at, _)) = text.char_indices().nth(MAX_CHARACTERS) {
        text.truncate(at);
        text.push('…');
    }
    // The runner executes commands in the older form (`##[...]`) anywhere in a line.
    harmless(&text)
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_become_a_workflow_command() {
        let mut annotations = Annotations::default();
        annotations.add(Level::Warning, "a\r\n::add-mask::x%0A::error::y");
        let text = annotations.render();
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with("::warning title=egress::a"), "{text}");
        assert!(text.contains("%250A"), "{text}");
    }

    /// Claims: action-errors
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
