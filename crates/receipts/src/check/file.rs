//! Checks one file line by line, and decides where to stop.
use std::io::{self, Read};

use super::super::entry::{Problem, RecorderEntry};
use super::super::findings::Place;
use super::super::input::Visit;
use super::super::json::{JsonError, JsonProblem};
use super::super::lines::{Line, Lines};
use super::super::outer::claimed_name;
use super::super::recorder::MAX_LINE_BYTES;
use super::super::rules;
use super::checker::Checker;

impl Checker<'_> {
    fn place(&self, file: &str, line: u64) -> Place {
        Place {
            file: self.several_files.then(|| String::from(file)),
            line: Some(line),
            seq: None,
        }
    }

    /// Checks the lines of one file. Only LF ends a line, because strings may contain other separators.
    pub(super) fn file(
        &mut self,
        name: &str,
        reader: &mut dyn Read,
        visit: Visit<'_>,
    ) -> io::Result<()> {
        let mut claimed = claimed_name(name);
        let is_first = self.files == 0;
        self.files = self.files.saturating_add(1);
        let mut lines = Lines::new(reader);
        let mut number = 0_u64;
        while let Some(line) = lines.next_line()? {
            number = number.saturating_add(1);
            let place = self.place(name, number);
            let Line::Text(line) = line else {
                let problem = Problem::new(&rules::LINE_LONG, "1 MiB", "more");
                self.unreadable(problem, true, &place);
                self.stop("a line without an end");
                return Ok(());
            };
            self.line(line, place, &mut claimed, is_first, visit);
            if self.context.findings.is_enough() {
                self.stop("too many errors of one rule");
                return Ok(());
            }
        }
        Ok(())
    }

    /// Adds a finding that the rest is not read.
    pub(super) fn stop(&mut self, why: &str) {
        self.stopped = true;
        let problem = Problem::new(&rules::STOPPED, "evidence to its end", why);
        self.add(problem, &Place::default());
    }

    fn line(
        &mut self,
        line: &[u8],
        place: Place,
        claimed: &mut Option<(String, u64)>,
        is_first: bool,
        visit: Visit<'_>,
    ) {
        let whole = line.last() == Some(&b'\n');
        let Some(text) = self.line_text(line, whole, &place) else {
            return;
        };
        let mut notes = Vec::new();
        let parsed = RecorderEntry::parse(text, &mut notes);
        for note in notes {
            self.add(note, &place);
        }
        let entry = match parsed {
            Ok(entry) => entry,
            Err(problem) => return self.unreadable(problem, whole, &place),
        };
        if let Some((session, seq)) = claimed.take() {
            if entry.text("session_id") != session {
                let found = String::from(entry.text("session_id"));
                self.add(Problem::new(&rules::FILE_NAME, session, found), &place);
            } else if entry.seq != seq && !is_first {
                let found = entry.seq.to_string();
                let problem = Problem::new(&rules::FILE_ORDER, seq.to_string(), found);
                self.add(problem, &place);
            }
        }
        self.entry(&entry, place, visit);
    }

    /// Returns the text of a line without the white space around it, or `None` if the line is blank or cannot be read.
    fn line_text<'l>(&mut self, line: &'l [u8], whole: bool, place: &Place) -> Option<&'l str> {
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        if content.len() > MAX_LINE_BYTES {
            let found = format!("{} bytes", content.len());
            self.unreadable(Problem::new(&rules::LINE_LONG, "1 MiB", found), true, place);
            return None;
        }
        let text = match str::from_utf8(content) {
            Ok(text) => text,
            Err(error) => {
                let error = JsonError {
                    offset: error.valid_up_to(),
                    problem: JsonProblem::Utf8,
                };
                let problem = Problem::new(&rules::LINE_JSON, "UTF-8", error.to_string());
                self.unreadable(problem, whole, place);
                return None;
            }
        };
        let trimmed = text.trim();
        if text.trim_matches([' ', '\t', '\r']) != trimmed {
            self.add(
                Problem::new(
                    &rules::LINE_SPACE,
                    "no white space around the line",
                    "white space",
                ),
                place,
            );
        }
        (!trimmed.is_empty()).then_some(trimmed)
    }

    /// Notes a line that is not an entry. Only the last line of a file can lack its LF. If a line without LF is not an
    /// entry, the writer was interrupted or the file was cut off.
    fn unreadable(&mut self, problem: Problem, whole: bool, place: &Place) {
        self.tail.unreadable();
        self.outer.lose();
        self.actions.lose();
        self.evidence.lose();
        if whole {
            self.add(problem, place);
        } else {
            self.add(
                Problem::new(&rules::TORN, "a complete entry", problem.found),
                place,
            );
        }
    }
}
