//! Checks whether an entry has the members and the summary with which a writer emits it. The signatures and hashes do
//! not cover these choices of the writer, or do not show whether they are usual.
use super::entry::{EntryKind, RecorderEntry};
use super::json::Node;

/// Names of the members, in any order.
type Names = &'static [&'static str];

const ENTRY: Names = &[
    "v",
    "seq",
    "ts",
    "session_id",
    "type",
    "event_kind",
    "transport",
    "summary",
    "detail",
    "prev_hash",
    "hash",
];
const RECEIPT: Names = &["version", "action_record", "signature", "signer_key"];
const RECORD: Names = &[
    "version",
    "action_id",
    "action_type",
    "timestamp",
    "principal",
    "actor",
    "delegation_chain",
    "target",
    "side_effect_class",
    "reversibility",
    "policy_hash",
    "verdict",
    "decision_phase",
    "transport",
    "method",
    "layer",
    "pattern",
    "request_id",
    "chain_prev_hash",
    "chain_seq",
    "run_nonce",
    "session_control",
];
const CONTROL: Names = &["kind", "open", "heartbeat", "close"];
const OPEN: Names = &[
    "run_nonce",
    "open_nonce",
    "recorder_session",
    "policy_hash",
    "signer_key_epoch",
    "heartbeat_seconds",
    "chain_open_seq",
    "genesis_hash",
    "posture_capsule_sha256",
    "posture_signer_key_id",
    "containment_nonce",
    "contained_uid",
];
const CHECKPOINT: Names = &["entry_count", "first_seq", "last_seq", "signature"];
const ROOT: Names = &[
    "session_id",
    "final_seq",
    "root_hash",
    "receipt_count",
    "start_time",
    "end_time",
];
/// Version of the entries that [`super::recorder::Recorder`] writes.
const ENTRY_VERSION: u64 = 2;
/// Number of digits of a hash in a summary.
const SHORT_HASH: usize = 16;

/// Numbers of entries whose form is not that of a writer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EntryForms {
    /// Entries whose summary does not follow from their content. Entries that are not a receipt, a checkpoint, or a
    /// transcript root are not counted.
    pub other_summary: u64,
    /// Entries that [`super::recorder::Recorder`] does not write: of another kind, or with other members, words, or
    /// times.
    pub unlike_recorder: u64,
}

/// Counts the entries of one session in their order.
#[derive(Debug, Default)]
pub(crate) struct FormCheck {
    pub(crate) forms: EntryForms,
    /// Time of the first entry, and of the previous one.
    first: String,
    previous: String,
}

impl FormCheck {
    /// Reads the next entry.
    pub(crate) fn see(&mut self, entry: &RecorderEntry<'_>) {
        let time = entry.text("ts");
        if self.first.is_empty() {
            time.clone_into(&mut self.first);
        }
        let forms = &mut self.forms;
        let is_other = summary(entry).is_some_and(|text| text != entry.text("summary"));
        forms.other_summary = forms.other_summary.saturating_add(u64::from(is_other));
        let is_unlike = !(has_members(entry) && self.has_values(entry));
        let forms = &mut self.forms;
        forms.unlike_recorder = forms.unlike_recorder.saturating_add(u64::from(is_unlike));
        time.clone_into(&mut self.previous);
    }

    /// Whether the recorder writes these times and words. A checkpoint and the transcript root follow a receipt of
    /// the same time.
    fn has_values(&self, entry: &RecorderEntry<'_>) -> bool {
        let detail = entry.detail();
        let of = |name| detail.map_or("", |detail| detail.member_text(name));
        let record = detail.and_then(|detail| detail.member("action_record"));
        let of_record = |name| record.map_or("", |record| record.member_text(name));
        let (words, times): ([&str; 2], &[&str]) = match entry.kind {
            EntryKind::Action => (
                [of_record("action_type"), of_record("transport")],
                &[of_record("timestamp")],
            ),
            EntryKind::Checkpoint => (["checkpoint", ""], &[self.previous.as_str()]),
            EntryKind::TranscriptRoot if of("start_time") != self.first => return false,
            EntryKind::TranscriptRoot => (
                ["transcript_root", ""],
                &[self.previous.as_str(), of("end_time")],
            ),
            EntryKind::Evidence | EntryKind::Other => return false,
        };
        words == ["event_kind", "transport"].map(|name| entry.text(name))
            && times.iter().all(|time| *time == entry.text("ts"))
    }
}

/// Returns the summary that follows from the content of an entry, if it follows from the content.
fn summary(entry: &RecorderEntry<'_>) -> Option<String> {
    let detail = entry.detail()?;
    let number = |name| detail.member_unsigned(name);
    match entry.kind {
        EntryKind::Action => {
            let record = detail.member("action_record")?;
            let [verdict, kind, transport] =
                ["verdict", "action_type", "transport"].map(|name| record.member_text(name));
            Some(format!("receipt: {verdict} {kind} {transport}"))
        }
        EntryKind::Evidence => {
            let (payload, kind) = (
                detail.member("payload")?,
                detail.member_text("payload_kind"),
            );
            let [action, verdict, source] =
                ["action_type", "verdict", "winning_source"].map(|name| payload.member_text(name));
            (kind == "proxy_decision").then(|| format!("{kind}: {action} {verdict} via {source}"))
        }
        EntryKind::Checkpoint => {
            let [count, first, last] = ["entry_count", "first_seq", "last_seq"].map(number);
            let (count, first, last) = (count?, first?, last?);
            Some(format!("checkpoint: {count} entries [seq {first}-{last}]"))
        }
        EntryKind::TranscriptRoot => {
            let root: String = detail
                .member_text("root_hash")
                .chars()
                .take(SHORT_HASH)
                .collect();
            let count = number("receipt_count")?;
            Some(format!("transcript_root: {count} receipts, root={root}"))
        }
        EntryKind::Other => None,
    }
}

/// Whether the recorder writes an entry of this kind with these members.
fn has_members(entry: &RecorderEntry<'_>) -> bool {
    let has_form = entry.version == ENTRY_VERSION && has_only(&entry.node, ENTRY);
    let Some(detail) = entry.detail().filter(|_| has_form) else {
        return false;
    };
    match entry.kind {
        EntryKind::Action => {
            let record = detail.member("action_record");
            has_only(detail, RECEIPT)
                && record.is_some_and(|record| has_only(record, RECORD) && has_control(record))
        }
        EntryKind::Checkpoint => has_only(detail, CHECKPOINT),
        EntryKind::TranscriptRoot => has_only(detail, ROOT),
        EntryKind::Evidence | EntryKind::Other => false,
    }
}

/// Whether a session record has only members of the recorder, and no counted fault of the storage: the recorder stops
/// at the first fault.
fn has_control(record: &Node<'_>) -> bool {
    let Some(control) = record.member("session_control") else {
        return true;
    };
    let open = control.member("open");
    let later = ["heartbeat", "close"].map(|name| control.member(name));
    let mut later = later.iter().flatten();
    has_only(control, CONTROL)
        && open.is_none_or(|open| has_only(open, OPEN))
        && later.all(|payload| {
            ["fsync_errors_gated", "durability_blocks"]
                .iter()
                .all(|name| payload.member_unsigned(name) == Some(0))
        })
}

fn has_only(node: &Node<'_>, names: Names) -> bool {
    let mut members = node.members().into_iter().flatten();
    members.all(|(name, _)| names.contains(&name.as_ref()))
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use serde_json::{Value, json};

    use super::super::record::{Action, ActionType, Phase, Posture, ReceiptVerdict, Transport};
    use super::super::recorder::{Moment, Recorder, SessionConfig};
    use super::*;

    /// Returns the numbers for the last of these lines.
    fn forms(lines: &[Value]) -> [u64; 2] {
        let mut check = FormCheck::default();
        let mut before = EntryForms::default();
        for line in lines {
            before = check.forms;
            check.see(&RecorderEntry::parse(&line.to_string(), &mut Vec::new()).unwrap());
        }
        let forms = check.forms;
        [
            forms.other_summary.abs_diff(before.other_summary),
            forms.unlike_recorder.abs_diff(before.unlike_recorder),
        ]
    }

    /// Returns the lines of a session with one action of each phase, a heartbeat, and a checkpoint.
    fn session() -> Vec<Value> {
        let config = SessionConfig {
            recorder_session: String::from("proxy.run.0"),
            run_nonce: String::from("00"),
            open_nonce: String::from("11"),
            actor: String::from("agent"),
            policy_hash: String::from("22"),
            heartbeat_seconds: 60,
            posture: Posture::default(),
            checkpoint_interval: 4,
        };
        let at = Moment {
            time: "2026-11-24T10:00:00Z",
            id: "id",
        };
        let key = SigningKey::from_bytes(&[7; 32]);
        let (mut recorder, mut lines) = Recorder::open(key, config, at).unwrap();
        for phase in [None, Some(Phase::Intent), Some(Phase::Outcome)] {
            let action = Action {
                action_id: "one",
                action_type: ActionType::Read,
                verdict: phase.map_or(ReceiptVerdict::Block, |_| ReceiptVerdict::Allow),
                phase,
                transport: Transport::Forward,
                target: "http://a.test/",
                method: "GET",
                layer: "layer",
                pattern: "pattern",
                request_id: "1",
            };
            lines.extend(recorder.action(&action, at.time).unwrap());
        }
        lines.extend(recorder.heartbeat(at).unwrap());
        lines.extend(recorder.close("graceful_shutdown", at).unwrap().lines);
        let text = String::from_utf8(lines).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn every_line_of_the_recorder_has_its_form() {
        let lines = session();
        let kinds: Vec<&str> = lines
            .iter()
            .map(|line| line["type"].as_str().unwrap())
            .collect();
        for kind in ["action_receipt", "checkpoint", "transcript_root"] {
            assert!(kinds.contains(&kind), "{kind}");
        }
        for at in 0..lines.len() {
            let with = |change: &dyn Fn(&mut Value)| {
                let mut changed = lines[..=at].to_vec();
                change(&mut changed[at]);
                forms(&changed)
            };
            assert_eq!(with(&|_same| {}), [0, 0], "{at}");
            for (name, value, expected) in [
                ("summary", json!("another"), [1, 0]),
                ("v", json!(1), [0, 1]),
                ("ts", json!("2026-11-24T10:00:01Z"), [0, 1]),
                ("trace_id", json!("t"), [0, 1]),
                ("event_kind", json!("another"), [0, 1]),
                ("transport", json!("another"), [0, 1]),
            ] {
                let found = with(&|line| line[name] = value.clone());
                assert_eq!(found, expected, "{at} {name}");
            }
            assert_eq!(with(&|line| line["detail"]["ext"] = json!({})), [0, 1]);
            assert_eq!(with(&|line| line["type"] = json!("decision"))[1], 1);
        }
        let root = kinds
            .iter()
            .position(|kind| *kind == "transcript_root")
            .unwrap();
        for name in ["start_time", "end_time"] {
            let mut changed = lines[..=root].to_vec();
            changed[root]["detail"][name] = json!("2026-11-24T10:00:01Z");
            assert_eq!(forms(&changed), [0, 1], "{name}");
        }
    }

    #[test]
    fn members_that_the_recorder_does_not_write_are_counted() {
        let lines = session();
        let with = |at: usize, pointer: &str, name: &str, value: Value| {
            let mut changed = lines[..=at].to_vec();
            changed[at].pointer_mut(pointer).unwrap()[name] = value;
            forms(&changed)[1]
        };
        let record = "/detail/action_record";
        let control = |payload: &str| format!("{record}/session_control{payload}");
        let beat = lines
            .iter()
            .position(|line| line.pointer(&control("/heartbeat")).is_some())
            .unwrap();
        let close = lines
            .iter()
            .position(|line| line.pointer(&control("/close")).is_some())
            .unwrap();
        assert_eq!(with(1, record, "severity", json!("high")), 1);
        assert_eq!(with(1, record, "session_taint_level", json!("low")), 1);
        assert_eq!(with(1, record, "request_id", json!("2")), 0);
        assert_eq!(with(0, &control("/open"), "group_binding", json!({})), 1);
        assert_eq!(with(0, &control("/open"), "run_nonce", json!("3")), 0);
        for (at, payload) in [(beat, "/heartbeat"), (close, "/close")] {
            for name in ["fsync_errors_gated", "durability_blocks"] {
                assert_eq!(with(at, &control(payload), name, json!(1)), 1, "{name}");
                assert_eq!(with(at, &control(payload), name, json!(0)), 0, "{name}");
            }
        }
    }
}
