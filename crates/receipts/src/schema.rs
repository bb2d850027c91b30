//! The members of signed objects in canonical order (evidence protocol, section 2.2). The code rebuilds the signed
//! bytes even if a file has another order or other white space.
use std::borrow::Cow;

use super::canonical::push_string;
use super::json::{Node, Value};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A map of names to unsigned integers, written with its names sorted by their bytes.
    Counts,
    /// `true` or `false`.
    Flag,
    /// A signed integer.
    Integer,
    /// An object.
    Object(&'static [Field]),
    /// A list of objects.
    Objects(&'static [Field]),
    /// A string.
    Text,
    /// A list of strings.
    Texts,
    /// An unsigned integer.
    Unsigned,
}

/// The condition under which a member is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Always. A missing member is an error.
    Always,
    /// Always, and `null` stays `null`.
    AlwaysOrNull,
    /// Only if the value is not empty, zero, false, or null.
    NotEmpty,
}

#[derive(Debug)]
pub(crate) struct Field {
    name: &'static str,
    kind: Kind,
    presence: Presence,
}

const fn always(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        presence: Presence::Always,
    }
}

const fn some(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        presence: Presence::NotEmpty,
    }
}

pub(crate) const ACTION_RECORD: &[Field] = &[
    always("version", Kind::Unsigned),
    always("action_id", Kind::Text),
    some("parent_action_id", Kind::Text),
    always("action_type", Kind::Text),
    always("timestamp", Kind::Text),
    always("principal", Kind::Text),
    always("actor", Kind::Text),
    Field {
        name: "delegation_chain",
        kind: Kind::Texts,
        presence: Presence::AlwaysOrNull,
    },
    always("target", Kind::Text),
    some("intent", Kind::Text),
    some("data_classes_in", Kind::Texts),
    some("data_classes_out", Kind::Texts),
    always("side_effect_class", Kind::Text),
    always("reversibility", Kind::Text),
    always("policy_hash", Kind::Text),
    always("verdict", Kind::Text),
    some("decision_phase", Kind::Text),
    some("defer_id", Kind::Text),
    some("resolution_policy", Kind::Text),
    some("resolution_source", Kind::Text),
    some("session_id", Kind::Text),
    some("session_id_original", Kind::Text),
    some("session_taint_level", Kind::Text),
    some("session_contaminated", Kind::Flag),
    some("recent_taint_sources", Kind::Objects(TAINT_SOURCE)),
    some("session_task_id", Kind::Text),
    some("session_task_label", Kind::Text),
    some("authority_kind", Kind::Text),
    some("taint_decision", Kind::Text),
    some("taint_decision_reason", Kind::Text),
    some("task_override_applied", Kind::Flag),
    some("contract_winning_source", Kind::Text),
    some("contract_live_verdict", Kind::Text),
    some("contract_policy_sources", Kind::Texts),
    some("contract_rule_id", Kind::Text),
    some("active_manifest_hash", Kind::Text),
    some("contract_hash", Kind::Text),
    some("contract_selector_id", Kind::Text),
    some("contract_generation", Kind::Unsigned),
    always("transport", Kind::Text),
    some("method", Kind::Text),
    some("layer", Kind::Text),
    some("pattern", Kind::Text),
    some("severity", Kind::Text),
    some("redaction", Kind::Object(REDACTION)),
    some("shield", Kind::Object(SHIELD)),
    some("request_id", Kind::Text),
    always("chain_prev_hash", Kind::Text),
    always("chain_seq", Kind::Unsigned),
    some("run_nonce", Kind::Text),
    some("key_transition", Kind::Object(KEY_TRANSITION)),
    some("session_control", Kind::Object(SESSION_CONTROL)),
    some("venue", Kind::Text),
    some("jurisdiction", Kind::Text),
    some("rulebook_id", Kind::Text),
    some("remedy_class", Kind::Text),
    some("contestation_window", Kind::Text),
    some("precedent_refs", Kind::Texts),
];

const TAINT_SOURCE: &[Field] = &[
    always("url", Kind::Text),
    always("kind", Kind::Text),
    always("level", Kind::Unsigned),
    always("timestamp", Kind::Text),
    some("receipt_id", Kind::Text),
    some("match_reason", Kind::Text),
];

const REDACTION: &[Field] = &[
    some("profile", Kind::Text),
    some("provider", Kind::Text),
    some("parser", Kind::Text),
    some("total_redactions", Kind::Unsigned),
    some("by_class", Kind::Counts),
    some("cache_boundary_kept", Kind::Flag),
];

const SHIELD: &[Field] = &[
    some("pipeline", Kind::Text),
    some("total_rewrites", Kind::Unsigned),
    some("extension_probes", Kind::Unsigned),
    some("tracking_beacons", Kind::Unsigned),
    some("agent_traps", Kind::Unsigned),
    some("fingerprint_shim_injected", Kind::Flag),
    some("svg_foreign_objects", Kind::Unsigned),
    some("svg_event_handlers", Kind::Unsigned),
    some("svg_external_references", Kind::Unsigned),
    some("svg_hidden_text", Kind::Unsigned),
    some("svg_animation_injections", Kind::Unsigned),
    some("body_bytes", Kind::Unsigned),
    some("scanned_bytes", Kind::Unsigned),
    some("partial", Kind::Flag),
    some("adaptive_signals_recorded", Kind::Unsigned),
    some("adaptive_signal_max_per_body", Kind::Unsigned),
];

const KEY_TRANSITION: &[Field] = &[
    always("prior_signer_key", Kind::Text),
    always("prior_chain_seq", Kind::Unsigned),
    always("prior_chain_hash", Kind::Text),
];

const SESSION_CONTROL: &[Field] = &[
    always("kind", Kind::Text),
    some("open", Kind::Object(OPEN)),
    some("heartbeat", Kind::Object(HEARTBEAT)),
    some("close", Kind::Object(CLOSE)),
];

const OPEN: &[Field] = &[
    always("run_nonce", Kind::Text),
    always("open_nonce", Kind::Text),
    always("recorder_session", Kind::Text),
    always("policy_hash", Kind::Text),
    always("signer_key_epoch", Kind::Text),
    always("heartbeat_seconds", Kind::Integer),
    always("chain_open_seq", Kind::Unsigned),
    some("prior_chain_head", Kind::Text),
    some("prior_chain_seq", Kind::Unsigned),
    some("genesis_hash", Kind::Text),
    some("genesis_anchor_head", Kind::Text),
    some("genesis_anchor_log", Kind::Text),
    some("posture_capsule_sha256", Kind::Text),
    some("posture_signer_key_id", Kind::Text),
    some("containment_nonce", Kind::Text),
    some("contained_uid", Kind::Text),
    some("group_binding", Kind::Object(GROUP_BINDING)),
];

const GROUP_BINDING: &[Field] = &[
    always("group_id", Kind::Text),
    always("shard_index", Kind::Unsigned),
    always("session_id", Kind::Text),
    always("open_manifest_sha256", Kind::Text),
    always("signer_key", Kind::Text),
    always("previous_group_id", Kind::Text),
    always("previous_open_manifest_sha256", Kind::Text),
];

const HEARTBEAT: &[Field] = &[
    always("run_nonce", Kind::Text),
    always("open_nonce", Kind::Text),
    always("beat", Kind::Unsigned),
    always("chain_head", Kind::Text),
    always("chain_seq_head", Kind::Unsigned),
    always("heartbeat_time", Kind::Text),
    always("fsync_errors_gated", Kind::Unsigned),
    always("durability_blocks", Kind::Unsigned),
];

const CLOSE: &[Field] = &[
    always("run_nonce", Kind::Text),
    always("open_nonce", Kind::Text),
    always("final_seq", Kind::Unsigned),
    always("root_hash", Kind::Text),
    always("receipt_count", Kind::Unsigned),
    always("close_reason", Kind::Text),
    always("fsync_errors_gated", Kind::Unsigned),
    always("durability_blocks", Kind::Unsigned),
];

/// The reason why an object has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    pub(crate) member: String,
    /// The problem: `missing`, `unknown`, or the expected type.
    pub(crate) problem: &'static str,
}

impl Misfit {
    fn new(member: &str, problem: &'static str) -> Self {
        Self {
            member: String::from(member),
            problem,
        }
    }

    fn within(mut self, parent: &str) -> Self {
        self.member = format!("{parent}.{}", self.member);
        self
    }
}

/// Appends the canonical text of `node`. The node must be an object with exactly the members
/// `fields`.
pub(crate) fn canonical(
    node: &Node<'_>,
    fields: &'static [Field],
    out: &mut String,
) -> Result<(), Misfit> {
    let members = node
        .members()
        .ok_or_else(|| Misfit::new("value", "not an object"))?;
    out.push('{');
    let mut first = true;
    let mut used = 0_usize;
    // Writers emit the canonical order, so the next field is usually the next member.
    let mut cursor = 0_usize;
    for field in fields {
        let Some((found, value)) = find(members, cursor, field.name) else {
            if field.presence == Presence::NotEmpty {
                continue;
            }
            return Err(Misfit::new(field.name, "missing"));
        };
        cursor = found.saturating_add(1);
        used = used.saturating_add(1);
        if is_omitted(field, value) {
            continue;
        }
        if !first {
            out.push(',');
        }
        first = false;
        out.push('"');
        out.push_str(field.name);
        out.push_str("\":");
        write_value(field, value, out)?;
    }
    out.push('}');
    if used != members.len() {
        let unknown = members
            .iter()
            .find(|(name, _)| fields.iter().all(|field| field.name != name));
        let name = unknown.map_or("value", |(name, _)| name.as_ref());
        return Err(Misfit::new(name, "unknown"));
    }
    Ok(())
}

/// Finds a member. The function first tries the member's place in canonical order.
fn find<'n, 'a>(
    members: &'n [(Cow<'a, str>, Node<'a>)],
    cursor: usize,
    name: &str,
) -> Option<(usize, &'n Node<'a>)> {
    match members.get(cursor) {
        Some((key, node)) if key == name => Some((cursor, node)),
        _ => members
            .iter()
            .enumerate()
            .find(|(_, (key, _))| key == name)
            .map(|(at, (_, node))| (at, node)),
    }
}

/// Whether the signed bytes omit a member because it is empty.
fn is_omitted(field: &Field, node: &Node<'_>) -> bool {
    if field.presence != Presence::NotEmpty {
        return false;
    }
    match (&node.value, field.kind) {
        (Value::Null | Value::Bool(false), _) => true,
        (Value::String(text), _) => text.is_empty(),
        (Value::Array(items), _) => items.is_empty(),
        (Value::Number, _) => node.raw == "0",
        // In the writer, an object is a pointer, but a map is not. An empty map is therefore
        // omitted, but an empty object is not.
        (Value::Object(members), Kind::Counts) => members.is_empty(),
        (Value::Object(_) | Value::Bool(true), _) => false,
    }
}

/// Checks the type of one value and appends it.
fn write_value(field: &Field, node: &Node<'_>, out: &mut String) -> Result<(), Misfit> {
    let wrong = |problem| Misfit::new(field.name, problem);
    match (field.kind, &node.value) {
        (Kind::Text, Value::String(text)) => push_string(out, text),
        (Kind::Flag, Value::Bool(true)) => out.push_str("true"),
        (Kind::Flag, Value::Bool(false)) => out.push_str("false"),
        (Kind::Unsigned, Value::Number) => {
            let value = node
                .unsigned()
                .ok_or_else(|| wrong("not an unsigned integer"))?;
            out.push_str(&value.to_string());
        }
        (Kind::Integer, Value::Number) => {
            let value: i64 = node.raw.parse().map_err(|_error| wrong("not an integer"))?;
            out.push_str(&value.to_string());
        }
        (Kind::Object(fields), Value::Object(_)) => {
            canonical(node, fields, out).map_err(|misfit| misfit.within(field.name))?;
        }
        (Kind::Objects(fields), Value::Array(items)) => {
            write_list(items, out, |item, out| {
                canonical(item, fields, out).map_err(|misfit| misfit.within(field.name))
            })?;
        }
        (Kind::Texts, Value::Array(items)) => {
            write_list(items, out, |item, out| {
                push_string(
                    out,
                    item.text().ok_or_else(|| wrong("not a list of strings"))?,
                );
                Ok(())
            })?;
        }
        (Kind::Texts, Value::Null) if field.presence == Presence::AlwaysOrNull => {
            out.push_str("null");
        }
        (Kind::Counts, Value::Object(members)) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
            out.push('{');
            for (index, (name, node)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_string(out, name);
                out.push(':');
                let value = node
                    .unsigned()
                    .ok_or_else(|| wrong("not a map of counts"))?;
                out.push_str(&value.to_string());
            }
            out.push('}');
        }
        (Kind::Text, _) => return Err(wrong("not a string")),
        (Kind::Flag, _) => return Err(wrong("not true or false")),
        (Kind::Unsigned | Kind::Integer, _) => return Err(wrong("not an integer")),
        (Kind::Object(_) | Kind::Counts, _) => return Err(wrong("not an object")),
        (Kind::Objects(_) | Kind::Texts, _) => return Err(wrong("not a list")),
    }
    Ok(())
}

fn write_list<'n, 'a>(
    items: &'n [Node<'a>],
    out: &mut String,
    mut write: impl FnMut(&'n Node<'a>, &mut String) -> Result<(), Misfit>,
) -> Result<(), Misfit> {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out)?;
    }
    out.push(']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::json::{MAX_DEPTH, parse};
    use super::*;

    fn rebuilt(text: &str, fields: &'static [Field]) -> Result<String, Misfit> {
        let node = parse(text, MAX_DEPTH).unwrap();
        let mut out = String::new();
        canonical(&node, fields, &mut out).map(|()| out)
    }

    #[test]
    fn members_are_ordered_and_empty_ones_left_out() {
        assert_eq!(
            rebuilt(
                r#" { "by_class" : {"b":2, "a":1}, "profile":"", "total_redactions" : 0, "cache_boundary_kept":true } "#,
                REDACTION
            ),
            Ok(String::from(
                r#"{"by_class":{"a":1,"b":2},"cache_boundary_kept":true}"#
            ))
        );
        assert_eq!(
            rebuilt("{\"by_class\":null}", REDACTION),
            Ok(String::from("{}"))
        );
    }

    #[test]
    fn misfits_name_the_member() {
        let text = r#"{"kind":"session_open","open":{"run_nonce":"a","more":1}}"#;
        assert_eq!(
            rebuilt(text, SESSION_CONTROL).unwrap_err(),
            Misfit::new("open.open_nonce", "missing")
        );
        assert_eq!(
            rebuilt(r#"{"profile":7}"#, REDACTION).unwrap_err(),
            Misfit::new("profile", "not a string")
        );
        assert_eq!(
            rebuilt(r#"{"profiles":"x"}"#, REDACTION).unwrap_err(),
            Misfit::new("profiles", "unknown")
        );
        assert_eq!(
            rebuilt(r#"{"total_redactions":1.0}"#, REDACTION).unwrap_err(),
            Misfit::new("total_redactions", "not an unsigned integer")
        );
    }
}
