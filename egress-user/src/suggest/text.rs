//! Formats a suggestion as a policy. Texts that the command chose are in comments, each in one line of ASCII.
use std::fmt::{self, Write as _};

use audit_packet::hint::IF_PRIVATE;

use super::{ADDRESS, LeftOut, MAX_PROCESSES, Suggestion, Uses};

/// Number of characters of a text that are shown.
const MAX_TEXT: usize = 96;

impl Suggestion {
    /// Returns the suggestion as a policy in Pipelock's YAML. Attempts that no policy can allow are comments.
    pub fn as_yaml(&self) -> String {
        let mut text = String::from(HEADER);
        for line in self.comments() {
            text.push_str("# ");
            text.push_str(&line);
            text.push('\n');
        }
        text.push_str("version: 1\nmode: strict\n");
        if self.rows.is_empty() {
            text.push_str("api_allowlist: []\n");
            return text;
        }
        text.push_str("api_allowlist:\n");
        for row in &self.rows {
            let mut notes = String::new();
            if row.shares_address {
                notes.push_str("; or another name with the same address");
            }
            if row.internal_address {
                notes.push_str("; still denied, because its address is internal");
            }
            let uses = row.uses.to_string();
            text.extend(["  - \"", &row.host, "\" # ", &uses, &notes, "\n"]);
        }
        let mut trusted = self.rows.iter().filter(|row| row.trusted).peekable();
        if trusted.peek().is_some() {
            text.push_str("trusted_domains:\n");
        }
        for row in trusted {
            text.extend(["  - \"", &row.host, "\" # ", IF_PRIVATE, "\n"]);
        }
        text
    }

    fn comments(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.allow_ports.is_empty() {
            lines.push(String::from("Options that egress run needs in addition:"));
        }
        for port in &self.allow_ports {
            let hosts: Vec<&str> = self
                .rows
                .iter()
                .filter(|row| row.ports.contains(port))
                .map(|row| row.host.as_str())
                .take(MAX_PROCESSES)
                .collect();
            lines.push(format!(
                "  --allow-port {port} # TLS or HTTP: {}",
                hosts.join(", ")
            ));
        }
        if !self.left_out.is_empty() {
            lines.push(String::from("Not on the list:"));
        }
        for left_out in &self.left_out {
            let LeftOut { attempt, uses, .. } = left_out;
            let port = match attempt.port {
                0 => String::new(),
                port => format!(" port {port}"),
            };
            let target = match attempt.target.as_str() {
                "" => String::new(),
                target => format!(" to {}", Shown(target)),
            };
            let protocol = Shown(&attempt.protocol);
            let why = why(left_out);
            lines.push(format!("  {protocol}{target}{port}, {uses}: {why}"));
        }
        if self.more_left_out > 0 {
            lines.push(format!(
                "  and {} attempts of other kinds",
                self.more_left_out
            ));
        }
        lines
    }
}

/// The first line of every suggested policy.
const HEADER: &str = "\
# Allows everything that this run did, even what it should not have done. Read it before you use it.
";

/// Describes in words why the suggested policy does not allow an attempt.
fn why(left_out: &LeftOut) -> String {
    match left_out.attempt.reason.as_str() {
        ADDRESS => String::from("has no known name; add the address itself to allow it"),
        other if left_out.hint.is_empty() => {
            format!("not decided by the allow-list: {}", Shown(other))
        }
        _ => left_out.hint.clone(),
    }
}

/// Formats uses as `curl (2), git (1)`.
impl fmt::Display for Uses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut named: u64 = 0;
        for (process, count) in &self.processes {
            write!(formatter, "{separator}{} ({count})", Shown(process))?;
            separator = ", ";
            named = named.saturating_add(*count);
        }
        match self.count.saturating_sub(named) {
            0 => Ok(()),
            others => write!(formatter, "{separator}others ({others})"),
        }
    }
}

/// A text that the command chose, for a comment: one line of ASCII, in quotes unless it is a plain word.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.:/@+".contains(letter);
        let is_long = self.0.chars().nth(MAX_TEXT).is_some();
        if !self.0.is_empty() && !is_long && self.0.chars().all(is_plain) {
            return formatter.write_str(self.0);
        }
        formatter.write_char('"')?;
        for character in self.0.chars().take(MAX_TEXT) {
            if is_plain(character) || "() ,=~".contains(character) {
                formatter.write_char(character)?;
            } else {
                write!(formatter, "{}", character.escape_unicode())?;
            }
        }
        formatter.write_str(if is_long { "\"..." } else { "\"" })
    }
}
