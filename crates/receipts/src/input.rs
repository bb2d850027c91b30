//! The input of a check, and the receipts that it passes to a visitor.
use super::json::{Node, Value};

/// One evidence file that is held in memory.
#[derive(Debug, Clone, Copy)]
pub struct EvidenceFile<'a> {
    /// Name without directories. A name `evidence-<session>-<seq>.jsonl` contains a session.
    pub name: &'a str,
    /// Content of the file.
    pub bytes: &'a [u8],
}

/// One receipt, as a visitor receives it. The texts of the receipt come from the file and must not be trusted unless
/// the report is consistent.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Line in its file, from 1.
    pub line: u64,
    /// Sequence number in the chain.
    pub seq: u64,
    /// Whether the receipt is a session record.
    pub is_session: bool,
    /// Whether this is a version 2 receipt. A version 2 receipt repeats a version 1 receipt with only some of its
    /// members.
    pub is_twin: bool,
    /// Hash of the receipt, if it matches the schema.
    pub hash: Option<&'a str>,
    pub(super) record: &'a Node<'a>,
    /// The entry that contains the receipt.
    pub(super) entry: &'a Node<'a>,
}

impl<'a> Seen<'a> {
    /// Returns the string member `name` of the record, or "" if there is none.
    pub fn text(&self, name: &str) -> &'a str {
        self.record.member_text(name)
    }

    /// Whether the record has the member `name`, and it is not `null`.
    pub fn has(&self, name: &str) -> bool {
        let member = self.record.member(name);
        member.is_some_and(|node| !matches!(node.value, Value::Null))
    }

    /// Returns a string member that both versions of a receipt have, such as `timestamp`, or "" if
    /// there is none.
    pub fn of_receipt(&self, name: &str) -> &'a str {
        let detail = self.entry.member("detail").filter(|_| self.is_twin);
        detail.unwrap_or(self.record).member_text(name)
    }

    /// Returns the time of the entry that contains the receipt.
    pub fn entry_time(&self) -> &'a str {
        self.entry.member_text("ts")
    }

    /// Returns `open`, `heartbeat`, or `close` for a session record, and "" for any other receipt.
    pub fn session_kind(&self) -> &'a str {
        let control = self.record.member("session_control");
        let kind = control.map_or("", |control| control.member_text("kind"));
        kind.strip_prefix("session_").unwrap_or(kind)
    }

    /// Returns the object of a session record that states its facts, such as `heartbeat`.
    fn session_facts(&self) -> Option<&'a Node<'a>> {
        let control = self.record.member("session_control")?;
        ["open", "heartbeat", "close"]
            .iter()
            .find_map(|name| control.member(name))
    }

    /// Returns the interval between heartbeats that an open states, s.
    pub fn heartbeat_seconds(&self) -> Option<u64> {
        self.session_facts()?.member_unsigned("heartbeat_seconds")
    }

    /// Returns the time that a heartbeat states, or "" for any other receipt.
    pub fn heartbeat_time(&self) -> &'a str {
        let facts = self.session_facts();
        facts.map_or("", |facts| facts.member_text("heartbeat_time"))
    }

    /// Returns the rule that decided, or "" if there is none. The rule is `pattern` in version 1
    /// and `rule_id` in version 2.
    pub fn rule(&self) -> &'a str {
        self.text(if self.is_twin { "rule_id" } else { "pattern" })
    }
}

/// A visitor of each receipt of either version.
pub type Visit<'v> = &'v mut dyn FnMut(&Seen<'_>);
