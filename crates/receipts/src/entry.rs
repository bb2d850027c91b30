//! Parses one line of a flight-recorder file (evidence protocol, sections 1.1 to 1.3).
use super::findings::Rule;
use super::json::{MAX_ENTRY_DEPTH, Node, folded, parse};
use super::recorder::entry_hash;
use super::rules;
use super::time_text;

/// The members of an entry. The hash does not cover any other member.
const NAMES: [&str; 15] = [
    "v",
    "seq",
    "ts",
    "session_id",
    "chain_kind",
    "writer_instance_id",
    "trace_id",
    "type",
    "event_kind",
    "transport",
    "summary",
    "detail",
    "raw_ref",
    "prev_hash",
    "hash",
];

/// The content of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A version 1 receipt.
    Action,
    /// A checkpoint, which may have a signature over the hash of the previous entry.
    Checkpoint,
    /// A version 2 receipt.
    Evidence,
    /// An entry that is not signed and is not a receipt.
    Other,
    /// The count and the root of the receipt chain.
    TranscriptRoot,
}

/// A violation of a rule by a line or a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) rule: &'static Rule,
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl Problem {
    pub(crate) fn new(
        rule: &'static Rule,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            rule,
            expected: expected.into(),
            found: found.into(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct RecorderEntry<'a> {
    pub(crate) node: Node<'a>,
    pub(crate) kind: EntryKind,
    pub(crate) version: u64,
    pub(crate) seq: u64,
}

impl<'a> RecorderEntry<'a> {
    /// Parses a line and checks the form of the entry. Adds harmless deviations to `notes`.
    pub(crate) fn parse(line: &'a str, notes: &mut Vec<Problem>) -> Result<Self, Problem> {
        let node = parse(line, MAX_ENTRY_DEPTH).map_err(|error| {
            Problem::new(&rules::LINE_JSON, "one JSON object", error.to_string())
        })?;
        let Some(members) = node.members() else {
            return Err(Problem::new(&rules::LINE_JSON, "one JSON object", node.raw));
        };
        for (name, _) in members {
            if NAMES.contains(&name.as_ref()) {
                continue;
            }
            let lower = folded(name);
            if NAMES.contains(&lower.as_str()) {
                return Err(Problem::new(&rules::ENTRY_ALIAS, lower, name.as_ref()));
            }
            notes.push(Problem::new(&rules::ENTRY_UNKNOWN, "", name.as_ref()));
        }
        if node.member("v").is_none()
            && (node.member("action_record").is_some() || node.member("record_type").is_some())
        {
            return Err(Problem::new(
                &rules::BARE_RECEIPT,
                "a recorder entry",
                "a receipt",
            ));
        }
        let Some(version @ 1..=3) = node.member_unsigned("v") else {
            let found = node.member("v").map_or("none", |node| node.raw);
            return Err(Problem::new(&rules::ENTRY_VERSION, "1, 2 or 3", found));
        };
        let seq = node
            .member_unsigned("seq")
            .ok_or_else(|| form(&node, "seq", "an unsigned integer"))?;
        check_texts(&node, version)?;
        let kind = match node.member_text("type") {
            "action_receipt" => EntryKind::Action,
            "evidence_receipt" => EntryKind::Evidence,
            "checkpoint" => EntryKind::Checkpoint,
            "transcript_root" => EntryKind::TranscriptRoot,
            "capture" | "capture_drop" | "decision" => EntryKind::Other,
            "receipt_group_v1" => {
                return Err(Problem::new(
                    &rules::ENTRY_GROUP,
                    "a single chain",
                    "receipt_group_v1",
                ));
            }
            other => return Err(Problem::new(&rules::ENTRY_TYPE, "a known type", other)),
        };
        Ok(Self {
            node,
            kind,
            version,
            seq,
        })
    }

    /// Returns the string member `name`, or "" if there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.node.member_text(name)
    }

    pub(crate) fn detail(&self) -> Option<&Node<'a>> {
        self.node.member("detail")
    }

    /// Computes the hash of the entry (section 1.2).
    pub(crate) fn computed_hash(&self) -> String {
        let version = self.version.to_string();
        let seq = self.seq.to_string();
        let mut parts = vec![
            version.as_str(),
            &seq,
            self.text("ts"),
            self.text("session_id"),
        ];
        if self.version == 3 {
            parts.push(self.text("chain_kind"));
            parts.push(self.text("writer_instance_id"));
        }
        parts.push(self.text("trace_id"));
        parts.push(self.text("type"));
        if self.version >= 2 {
            parts.push(self.text("event_kind"));
        }
        parts.push(self.text("transport"));
        parts.push(self.text("summary"));
        parts.push(self.detail().map_or("null", |node| node.raw));
        parts.push(self.text("raw_ref"));
        parts.push(self.text("prev_hash"));
        entry_hash(&parts)
    }
}

fn check_texts(node: &Node<'_>, version: u64) -> Result<(), Problem> {
    for (name, required) in [
        ("ts", true),
        ("session_id", true),
        ("chain_kind", version == 3),
        ("writer_instance_id", version == 3),
        ("trace_id", false),
        ("type", true),
        ("event_kind", false),
        ("transport", false),
        ("summary", false),
        ("raw_ref", false),
        ("prev_hash", true),
        ("hash", true),
    ] {
        let Some(member) = node.member(name) else {
            if required {
                return Err(form(node, name, "present"));
            }
            continue;
        };
        let text = member.text().ok_or_else(|| form(node, name, "a string"))?;
        if required && text.is_empty() {
            return Err(form(node, name, "a non-empty string"));
        }
        if text.contains('\0') {
            return Err(Problem::new(&rules::ENTRY_NUL, "no NUL", name));
        }
        if name == "ts" && (member.raw.contains('\\') || !time_text::is_normal(text)) {
            return Err(Problem::new(
                &rules::ENTRY_TIME,
                "RFC 3339, UTC, no trailing zeros",
                text,
            ));
        }
    }
    if version < 3 {
        for name in ["chain_kind", "writer_instance_id"] {
            if !node.member_text(name).is_empty() {
                return Err(Problem::new(
                    &rules::ENTRY_V3,
                    "absent before version 3",
                    name,
                ));
            }
        }
    }
    Ok(())
}

/// Returns a [`Problem`] that shows the value of the member `name`.
fn form(node: &Node<'_>, name: &str, expected: &str) -> Problem {
    let found = node.member(name).map_or("nothing", |member| member.raw);
    Problem::new(&rules::ENTRY_FORM, format!("{name}: {expected}"), found)
}
