//! What goes into a check, and what it shows while it runs.
use super::json::Node;

/// One evidence file that is held in memory.
#[derive(Debug, Clone, Copy)]
pub struct EvidenceFile<'a> {
    /// Its name without directories; `evidence-<session>-<seq>.jsonl` claims a session.
    pub name: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// One receipt as it is passed, for reconciliation with other records. Its texts are
/// what the file says; they count only if the report is consistent.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Line in its file, from 1.
    pub line: u64,
    /// Place in the chain.
    pub seq: u64,
    /// Whether it is a session record.
    pub is_session: bool,
    /// Whether it is a version 2 receipt, which repeats a version 1 receipt and has few of its members.
    pub is_twin: bool,
    /// Its hash, when its form is right.
    pub hash: Option<&'a str>,
    pub(super) record: &'a Node<'a>,
}

impl<'a> Seen<'a> {
    /// A string member of the record: `action_id`, `target`, `transport`, `verdict`,
    /// `decision_phase`, `layer`, `pattern`, `method`, `request_id`, `timestamp`, …; empty when absent.
    pub fn text(&self, name: &str) -> &'a str {
        self.record.member_text(name)
    }

    /// `open`, `heartbeat`, or `close` of a session record; empty for any other receipt.
    pub fn session_kind(&self) -> &'a str {
        let control = self.record.member("session_control");
        let kind = control.map_or("", |control| control.member_text("kind"));
        kind.strip_prefix("session_").unwrap_or(kind)
    }

    /// What both versions of a receipt say of the rule that decided: `pattern` or `rule_id`; empty when absent.
    pub fn rule(&self) -> &'a str {
        self.text(if self.is_twin { "rule_id" } else { "pattern" })
    }
}

/// Shows each receipt of either version as it is passed.
pub type Visit<'v> = &'v mut dyn FnMut(&Seen<'_>);
