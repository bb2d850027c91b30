//! Writes and checks the hash chain of `flows.jsonl`.
//!
//! A line is a JSON object `{"seq":N,"prev_hash":P,…,"hash":H}`. `H` is the lowercase hex SHA-256 of `P`, a zero byte,
//! and the text of the line in which `}` replaces the last member `,"hash":"H"}`. The first `P` is `genesis`. The chain
//! has no key, so it detects only accidents and simple edits. The attestation authenticates the file.
use std::io::{self, Read};

use pipelock_receipts::findings::{Finding, Findings, Place, Rule};
use pipelock_receipts::json::{MAX_ENTRY_DEPTH, Node, parse};
use pipelock_receipts::lines::{self, Lines};
use pipelock_receipts::record::GENESIS;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::rules;

/// Maximum length of a line, in bytes and without its LF.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Text of the last member before its digits.
const HASH_MEMBER: &str = ",\"hash\":\"";
/// Text of the last member after its digits.
const HASH_END: &str = "\"}";
const RESERVED: [&str; 3] = ["seq", "prev_hash", "hash"];

/// The writer of the chain.
#[derive(Debug, Clone)]
pub struct FlowChain {
    next_seq: u64,
    head: String,
}

impl Default for FlowChain {
    fn default() -> Self {
        Self::new()
    }
}

impl FlowChain {
    /// Returns a chain without lines.
    pub fn new() -> Self {
        Self {
            next_seq: 0,
            head: String::from(GENESIS),
        }
    }

    /// Returns the line for `fields`, with its LF. Members named `seq`, `prev_hash`, or `hash` are dropped, because the
    /// chain adds them.
    pub fn line(&mut self, fields: &Map<String, Value>) -> Vec<u8> {
        let mut text = format!(
            "{{\"seq\":{},\"prev_hash\":\"{}\"",
            self.next_seq, self.head
        );
        for (name, value) in fields {
            if RESERVED.contains(&name.as_str()) {
                continue;
            }
            text.push(',');
            text.push_str(&Value::from(name.as_str()).to_string());
            text.push(':');
            text.push_str(&value.to_string());
        }
        text.push('}');
        let hash = line_hash(&self.head, &[&text]);
        text.pop();
        text.push_str(HASH_MEMBER);
        text.push_str(&hash);
        text.push_str(HASH_END);
        text.push('\n');
        self.head = hash;
        self.next_seq = self.next_seq.saturating_add(1);
        text.into_bytes()
    }

    /// Returns the hash of the last line, or `genesis` if there is none.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Returns the number of lines so far.
    pub fn lines(&self) -> u64 {
        self.next_seq
    }
}

/// The result of the check of a flow log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowReport {
    /// Number of lines that are objects of the chain.
    pub lines: u64,
    /// Hash of the last line, or `genesis` if there is none.
    pub head: String,
    /// Findings, causes before their consequences. Empty if the chain is valid.
    pub findings: Vec<Finding>,
}

/// Checks the chain of a flow log and passes each line to `visit`. After too many errors, the rest of the log is not
/// read.
///
/// # Errors
/// Fails if the log cannot be read to its end.
pub fn check_flows(
    reader: &mut dyn Read,
    visit: &mut dyn FnMut(&Node<'_>),
) -> io::Result<FlowReport> {
    let mut check = FlowCheck::new();
    let mut lines = Lines::new(reader);
    while let Some(line) = lines.next_line()? {
        let is_last = match line {
            lines::Line::Text(raw) => {
                check.line(raw, visit);
                check.findings.is_enough()
            }
            lines::Line::Endless => {
                check.number = check.number.saturating_add(1);
                check.broken(&rules::FLOWS_FORM, "a line without an end");
                true
            }
        };
        if is_last {
            let place = check.place();
            let (expected, found) = (
                "a flow log that is read to its end",
                "too many errors of one rule",
            );
            check
                .findings
                .add(&rules::FLOWS_STOPPED, place, expected, found);
            break;
        }
    }
    Ok(check.finish())
}

struct FlowCheck {
    findings: Findings,
    /// Hash of the previous line. `None` after a line that cannot be read.
    head: Option<String>,
    next_seq: Option<u64>,
    lines: u64,
    number: u64,
}

impl FlowCheck {
    fn new() -> Self {
        Self {
            findings: Findings::default(),
            head: Some(String::from(GENESIS)),
            next_seq: Some(0),
            lines: 0,
            number: 0,
        }
    }

    fn place(&self) -> Place {
        Place {
            file: Some(String::from(super::names::FLOWS_FILE)),
            line: Some(self.number),
            seq: None,
        }
    }

    fn broken(&mut self, rule: &'static Rule, found: impl Into<String>) {
        let place = self.place();
        self.findings.add(rule, place, "a line of the chain", found);
        self.head = None;
        self.next_seq = None;
    }

    fn line(&mut self, raw: &[u8], visit: &mut dyn FnMut(&Node<'_>)) {
        self.number = self.number.saturating_add(1);
        let whole = raw.last() == Some(&b'\n');
        let content = raw.strip_suffix(b"\n").unwrap_or(raw);
        let line = match Line::read(content) {
            Ok(line) if whole => line,
            other => {
                let rule = if whole {
                    &rules::FLOWS_FORM
                } else {
                    &rules::FLOWS_TORN
                };
                let found = other.err().unwrap_or_else(|| String::from("no line end"));
                return self.broken(rule, found);
            }
        };
        let prev_hash = line.prev_hash();
        if let Some(expected) = self.next_seq.filter(|expected| *expected != line.seq) {
            let (place, found) = (self.place(), format!("seq {}", line.seq));
            self.findings
                .add(&rules::FLOWS_LINK, place, format!("seq {expected}"), found);
        } else if let Some(head) = self.head.as_deref().filter(|head| *head != prev_hash) {
            let place = self.place();
            self.findings
                .add(&rules::FLOWS_LINK, place, head, prev_hash);
        }
        let computed = line_hash(prev_hash, &[line.body, "}"]);
        if computed != line.hash {
            let place = self.place();
            self.findings
                .add(&rules::FLOWS_HASH, place, computed, line.hash);
        }
        self.lines = self.lines.saturating_add(1);
        self.next_seq = line.seq.checked_add(1);
        let head = self.head.get_or_insert_default();
        head.clear();
        head.push_str(line.hash);
        visit(&line.node);
    }

    fn finish(self) -> FlowReport {
        FlowReport {
            lines: self.lines,
            head: self.head.unwrap_or_default(),
            findings: self.findings.into_ranked().0,
        }
    }
}

struct Line<'a> {
    node: Node<'a>,
    seq: u64,
    /// The text before the last member.
    body: &'a str,
    hash: &'a str,
}

impl<'a> Line<'a> {
    fn read(content: &'a [u8]) -> Result<Self, String> {
        if content.len() > MAX_LINE_BYTES {
            return Err(format!("{} bytes", content.len()));
        }
        let text = str::from_utf8(content).map_err(|error| error.to_string())?;
        let node = parse(text, MAX_ENTRY_DEPTH).map_err(|error| error.to_string())?;
        let (body, hash) = text
            .strip_suffix(HASH_END)
            .and_then(|rest| rest.rsplit_once(HASH_MEMBER))
            .ok_or("hash is not the last member")?;
        // The member at the end of the text must be the member that the parser read.
        if node.member_text("hash") != hash || hash.len() != 64 {
            return Err(String::from("hash is not the last member"));
        }
        let seq = node
            .member_unsigned("seq")
            .ok_or("seq is not an unsigned integer")?;
        Ok(Self {
            node,
            seq,
            body,
            hash,
        })
    }

    fn prev_hash(&self) -> &str {
        self.node.member_text("prev_hash")
    }
}

/// Computes the hash of a line. The text of the line may be in parts.
fn line_hash(prev_hash: &str, text: &[&str]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(prev_hash.as_bytes());
    hasher.update([0]);
    for part in text {
        hasher.update(part.as_bytes());
    }
    hex::encode(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn log(lines: usize) -> Vec<Vec<u8>> {
        let mut chain = FlowChain::new();
        (0..lines)
            .map(|number| {
                let fields = json!({"event": "connect", "n": number, "hash": "mine", "x": "\",\"hash\":\"y"});
                chain.line(fields.as_object().unwrap())
            })
            .collect()
    }

    fn rules(bytes: &[u8]) -> Vec<&'static str> {
        let report = check_flows(&mut &*bytes, &mut |_| {}).unwrap();
        report
            .findings
            .iter()
            .map(|finding| finding.rule.id)
            .collect()
    }

    #[test]
    fn written_chain_holds() {
        let lines = log(5);
        let mut seen = 0;
        let report = check_flows(&mut lines.concat().as_slice(), &mut |node| {
            assert_eq!(node.member_unsigned("n"), Some(seen));
            seen += 1;
        })
        .unwrap();
        assert_eq!((report.lines, seen), (5, 5));
        assert!(report.findings.is_empty());
        let text = String::from_utf8(lines[4].clone()).unwrap();
        assert!(text.contains(&format!(",\"hash\":\"{}\"}}\n", report.head)));
        assert_eq!(rules(b""), Vec::<&str>::new());
    }

    #[test]
    fn every_edit_of_a_log_is_found() {
        let lines = log(4);
        let cut = |keep: &[usize]| -> Vec<u8> {
            keep.iter()
                .flat_map(|index| lines[*index].clone())
                .collect()
        };
        assert_eq!(rules(&cut(&[0, 2, 3])), ["flows.link"]);
        assert_eq!(rules(&cut(&[1, 2, 3])), ["flows.link"]);
        assert_eq!(rules(&cut(&[0, 0, 1, 2, 3])), ["flows.link"]);
        assert_eq!(rules(&cut(&[0, 2, 1, 3])), ["flows.link"; 3]);
        let text = String::from_utf8(cut(&[0, 1, 2, 3])).unwrap();
        assert_eq!(
            rules(text.replacen("connect", "connecT", 1).as_bytes()),
            ["flows.hash"]
        );
        assert_eq!(rules(text.trim_end().as_bytes()), ["flows.torn"]);
        assert_eq!(rules(&text.as_bytes()[..text.len() - 40]), ["flows.torn"]);
        assert_eq!(
            rules(text.replacen("{\"seq\"", "{ \"seq\"", 1).as_bytes()),
            ["flows.hash"]
        );
        assert_eq!(rules(b"{}\n"), ["flows.form"]);
        assert_eq!(rules(b"\n"), ["flows.form"]);
    }

    #[test]
    fn log_of_errors_alone_is_not_read_to_its_end() {
        let start = std::time::Instant::now();
        for line in ["\n", "{}\n", "x"] {
            let bytes = line.repeat(20 << 20);
            let mut rest = bytes.as_bytes();
            let report = check_flows(&mut rest, &mut |_| {}).unwrap();
            assert!(rest.len() > bytes.len() / 2, "{line:?}: {}", rest.len());
            let last = report.findings.last().unwrap();
            assert_eq!(last.rule.id, "flows.stopped", "{line:?}");
            assert!(report.findings.len() < 12);
        }
        assert!(start.elapsed() < std::time::Duration::from_secs(5));
    }
}
