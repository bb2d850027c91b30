//! A suggestion as a policy. Texts of the command's stand in comments, in one line of ASCII each.
use std::fmt::{self, Write as _};

use super::{ADDRESS, DNS, LeftOut, MAX_PROCESSES, Suggestion, Uses};

/// Characters that are shown of a text of the command's.
const MAX_TEXT: usize = 96;

impl Suggestion {
    /// The suggestion as a policy in Pipelock's YAML, with what cannot be in it as comments.
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
                notes.push_str("; or another name of the same address");
            }
            if row.internal_address {
                notes.push_str("; refused all the same: its address is internal");
            }
            let uses = row.uses.to_string();
            text.extend(["  - \"", &row.host, "\" # ", &uses, &notes, "\n"]);
        }
        text
    }

    fn comments(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.allow_ports.is_empty() {
            lines.push(String::from(
                "Options of egress run that it takes beside the list:",
            ));
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
            lines.push(String::from("Not in the list:"));
        }
        for LeftOut { attempt, uses } in &self.left_out {
            let port = match attempt.port {
                0 => String::new(),
                port => format!(" port {port}"),
            };
            let target = match attempt.target.as_str() {
                "" => String::new(),
                target => format!(" to {}", Shown(target)),
            };
            let protocol = Shown(&attempt.protocol);
            let why = why(&attempt.reason);
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

/// What stands above every list.
const HEADER: &str = "\
# Allows what this run did, whether it should have or not: read it before you use it.
";

/// A reason in words.
fn why(reason: &str) -> String {
    String::from(match reason {
        ADDRESS => {
            "cannot be allowed by a name, none is known of it; a row of the address itself would"
        }
        DNS => "cannot be allowed, names are asked of the boundary's own resolver",
        "udp" => "cannot be allowed, UDP has no way out",
        "protocol" | "socket_type" | "not_loopback" => {
            "cannot be allowed, nothing but TCP has a way out"
        }
        "not_tls_or_http" | "client_silent" | "port_not_allowed" => {
            "cannot be allowed, nothing but TLS and HTTP has a way out"
        }
        "not_in_the_boundary" => "no socket of the boundary; --allow-unix opens one of the host's",
        other => return format!("no matter of the list: {}", Shown(other)),
    })
}

/// `curl (2), git (1)`.
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

/// A text of the command's, for a comment: one line of ASCII, in quotes unless it is a plain word.
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
