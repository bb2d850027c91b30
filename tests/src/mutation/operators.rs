//! The operators, each of which changes one node of a document.
use std::collections::{BTreeMap, BTreeSet};

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::elements;
use super::json::{Json, Step};
use super::schema::Schema;

/// A member that no format has.
const UNKNOWN_MEMBER: &str = "zebra";
/// A word that no format has.
const UNKNOWN_WORD: &str = "zebra";
/// Number of words that replace one text and come from elsewhere in the document.
const OTHER_WORDS: usize = 3;

/// Words of the formats, even if this document does not contain them.
const KNOWN_WORDS: [(&str, &[&str]); 15] = [
    ("kind", &["builtin", "pipelock"]),
    (
        "mode",
        &[
            "enforce", "audit", "strict", "balanced", "apply", "copy", "direct",
        ],
    ),
    (
        "outcome",
        &[
            "denied",
            "reachable",
            "not_applicable",
            "control_failed",
            "applied",
            "refused",
        ],
    ),
    (
        "verdict",
        &[
            "allow",
            "block",
            "forwarded",
            "blocked",
            "refused",
            "failed",
            "redirected",
            "denied",
            "local",
            "unread",
            "valid",
            "invalid",
        ],
    ),
    ("grade", &["kernel_enforced", "kernel_observed", "none"]),
    (
        "source",
        &["kernel", "relay", "resolver", "supervisor", "kernel_close"],
    ),
    ("event", &["heartbeat", "agent_gone", "end"]),
    (
        "transport",
        &["connect", "forward", "websocket", "fetch", "intercept"],
    ),
    ("protocol", &["http", "tls", "tcp", "udp", "connect"]),
    ("decision_phase", &["intent", "outcome"]),
    ("layer", &["allowlist", "ssrf", "dlp", "session_close"]),
    ("provider", &["github_actions", "local", "self_hosted"]),
    ("dns", &["synthetic", "deny"]),
    (
        "dns_udp_status",
        &["allowed", "denied", "proxied", "unknown"],
    ),
    ("raw_socket_status", &["allowed", "denied", "unknown"]),
];

/// A changed document, and the name of the change.
pub(super) type Changed = (String, Json);

/// The texts in a document, by the name of their member, and the schema of the document.
#[derive(Debug, Default)]
pub(super) struct Words {
    here: BTreeMap<String, BTreeSet<String>>,
    schema: Option<Schema>,
}

impl Words {
    /// Collects the texts of `document`.
    pub(super) fn of(document: &Json) -> Self {
        let mut words = Self::default();
        words.collect("", document);
        words
    }

    /// Adds the schema with this name, if there is one.
    pub(super) fn with_schema(self, name: &str) -> Self {
        Self {
            schema: Schema::of(name),
            ..self
        }
    }

    fn collect(&mut self, name: &str, node: &Json) {
        if let Some(text) = node.text() {
            self.here.entry(name.to_owned()).or_default().insert(text);
        }
        for (below, child) in node.children() {
            let name = if matches!(node, Json::Array(_)) {
                name
            } else {
                &below
            };
            self.collect(name, child);
        }
    }

    /// Returns other words that may replace `text` in the member `name`.
    fn others(&self, name: &str, text: &str) -> Vec<String> {
        let known = KNOWN_WORDS.iter().filter(|(member, _)| *member == name);
        let known = known.flat_map(|(_, words)| words.iter().map(|word| (*word).to_owned()));
        let here = self.here.get(name).into_iter().flatten().cloned();
        let mut others: Vec<String> = here.filter(|word| word != text).take(OTHER_WORDS).collect();
        for word in known.filter(|word| word != text) {
            if !others.contains(&word) {
                others.push(word);
            }
        }
        others
    }
}

/// Returns every change of the node at `steps` in `document`. `name` is the name of its member.
pub(super) fn changes(document: &Json, steps: &[Step], name: &str, words: &Words) -> Vec<Changed> {
    let Some(node) = document.at(steps) else {
        return Vec::new();
    };
    let mut changed = Vec::new();
    let mut add = |operator: String, version: Json| {
        if version != *document && !changed.iter().any(|(_, other)| *other == version) {
            changed.push((operator, version));
        }
    };
    let put = |value: Json| {
        let mut version = document.clone();
        if let Some(there) = version.at_mut(steps) {
            *there = value;
        }
        version
    };
    for (operator, value) in values(node, name, words) {
        add(operator, put(value));
    }
    for (operator, value) in of_schema(document, steps, words) {
        add(operator, put(value));
    }
    if let Some((last, parents)) = steps.split_last() {
        for (operator, parent) in around(document.at(parents), *last) {
            let mut version = document.clone();
            if let Some(there) = version.at_mut(parents) {
                *there = parent;
            }
            add(operator.to_owned(), version);
        }
    }
    changed
}

/// Returns values for a node that its format allows: every other word, an object with one more member, and an object with
/// another verdict and reason.
fn of_schema(document: &Json, steps: &[Step], words: &Words) -> Vec<(String, Json)> {
    let (Some(node), Some(schema)) = (document.at(steps), words.schema) else {
        return Vec::new();
    };
    let forms = schema.forms(document, steps);
    let mut all = Vec::new();
    if node.text().is_some() {
        let words = Schema::words(&forms).into_iter();
        all.extend(words.map(|word| (format!("word={word}"), Json::string(&word))));
    }
    if let Json::Object(members) = node {
        for (name, value) in schema.absent(&forms, node) {
            let mut version = node.clone();
            version.set(&name, value);
            all.push((format!("added={name}"), version));
        }
        let of_member = |name: &str| {
            let at = members.iter().position(|(own, _)| own == name);
            let steps = at.map(|at| [steps, &[at]].concat());
            let forms = steps.map(|steps| schema.forms(document, &steps));
            Schema::words(&forms.unwrap_or_default())
        };
        let pairs = elements::of_verdict(node, &of_member("verdict"), &of_member("reason"));
        all.extend(pairs);
    }
    all
}

/// Returns other values for a node, each with the name of the change.
fn values(node: &Json, name: &str, words: &Words) -> Vec<(String, Json)> {
    let raw = |text: &str| Json::Leaf(text.to_owned());
    let mut all = vec![(String::from("null"), raw("null"))];
    match node {
        Json::Object(members) => {
            all.push(("empty".into(), Json::Object(Vec::new())));
            all.push(("other_type".into(), raw("\"an object\"")));
            let mut more = members.clone();
            more.push((UNKNOWN_MEMBER.to_owned(), raw("1")));
            all.push(("unknown_member".into(), Json::Object(more)));
            if let Some((first, value)) = members.first() {
                let mut twice = members.clone();
                twice.push((first.clone(), value.clone()));
                all.push(("member_twice".into(), Json::Object(twice)));
            }
            all.extend(elements::of_numbers(members));
        }
        Json::Array(items) => {
            all.push(("empty".into(), Json::Array(Vec::new())));
            all.push(("other_type".into(), Json::Object(Vec::new())));
            let mut more = items.clone();
            more.push(Json::string(UNKNOWN_WORD));
            all.push(("unknown_element".into(), Json::Array(more)));
            let mut reversed = items.clone();
            reversed.reverse();
            all.push(("reordered".into(), Json::Array(reversed)));
            all.extend(elements::of_list(items));
        }
        Json::Leaf(text) if text == "true" || text == "false" => {
            let flipped = if text == "true" { "false" } else { "true" };
            all.push(("flipped".into(), raw(flipped)));
            all.push(("other_type".into(), raw("\"true\"")));
        }
        Json::Leaf(text) if text == "null" => {
            all.push(("a_number".into(), raw("7")));
            all.push(("a_text".into(), Json::string(UNKNOWN_WORD)));
            all.push(("an_object".into(), Json::Object(Vec::new())));
        }
        Json::Leaf(number) if !number.starts_with('"') => {
            all.push(("other_type".into(), Json::string(number)));
            all.push(("zero".into(), raw("0")));
            all.push(("negative".into(), raw("-1")));
            all.push(("huge".into(), raw("9007199254740991")));
            all.push(("beyond".into(), raw("18446744073709551616")));
            all.push(("fraction".into(), raw(&format!("{number}.5"))));
            if let Ok(number) = number.parse::<i64>() {
                all.push(("plus_one".into(), Json::number(number.saturating_add(1))));
                all.push(("minus_one".into(), Json::number(number.saturating_sub(1))));
            }
        }
        Json::Leaf(_) => {
            all.push(("empty".into(), raw("\"\"")));
            all.push(("other_type".into(), raw("17")));
            all.push(("unknown_word".into(), Json::string(UNKNOWN_WORD)));
            all.extend(texts(&node.text().unwrap_or_default(), name, words));
        }
    }
    all
}

/// Returns other texts for a text, each with the name of the change.
fn texts(text: &str, name: &str, words: &Words) -> Vec<(String, Json)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for word in words.others(name, text) {
        let short: String = word.chars().take(24).collect();
        all.push((format!("word={short}"), word));
    }
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        for (operator, by) in [
            ("second_later", Duration::SECOND),
            ("second_earlier", -Duration::SECOND),
            ("hour_later", Duration::HOUR),
            ("hour_earlier", -Duration::HOUR),
            ("year_later", Duration::days(365)),
            ("year_earlier", Duration::days(-365)),
        ] {
            if let Ok(text) = (time + by).format(&Rfc3339) {
                all.push((operator.to_owned(), text));
            }
        }
    }
    let last = text.chars().next_back();
    if text.len() >= 16 && last.is_some_and(|digit| digit.is_ascii_hexdigit()) {
        let mut digit = text.to_owned();
        let other = if digit.pop() == Some('0') { '1' } else { '0' };
        digit.push(other);
        all.push(("one_digit".into(), digit));
    }
    for (operator, from, to) in [
        ("other_host", "allowed.test", "evil.test"),
        ("other_host", "denied.test", "evil.test"),
        ("other_port", ":80", ":81"),
        ("other_port", ":443", ":444"),
        ("other_method", "GET ", "POST "),
        ("other_scheme", "http://", "https://"),
        ("other_address", "198.18.", "198.19."),
    ] {
        if text.contains(from) {
            all.push((operator.to_owned(), text.replacen(from, to, 1)));
        }
    }
    if text.contains('/') {
        all.push(("other_path".into(), format!("{text}x")));
    }
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        all.push(("upper_case".into(), text.to_ascii_uppercase()));
    }
    all.push(("longer".into(), format!("{text} ")));
    let as_json = |(operator, text): (String, String)| (operator, Json::string(&text));
    all.into_iter().map(as_json).collect()
}

/// Returns the changes of a parent that remove, repeat, replace, or exchange its child at position `at`.
fn around(parent: Option<&Json>, at: usize) -> Vec<(&'static str, Json)> {
    let mut all = Vec::new();
    match parent {
        Some(Json::Object(members)) => {
            let version = |change: &dyn Fn(&mut Vec<(String, Json)>)| {
                let mut members = members.clone();
                change(&mut members);
                Json::Object(members)
            };
            all.push(("removed", version(&|members| drop(members.remove(at)))));
            let of_kind = |other: &usize| {
                let pair = members.get(at).zip(members.get(*other));
                *other != at && pair.is_some_and(|((_, one), (_, two))| is_alike(one, two))
            };
            if let Some(other) = (at + 1..members.len()).chain(0..at).find(of_kind) {
                let value = members.get(other).map(|(_, value)| value.clone());
                let copied = version(&|members| {
                    if let (Some((_, there)), Some(value)) = (members.get_mut(at), &value) {
                        *there = value.clone();
                    }
                });
                all.push(("neighbour", copied));
                let swapped = version(&|members| {
                    let names: Vec<String> = members.iter().map(|(name, _)| name.clone()).collect();
                    members.swap(at, other);
                    for ((name, _), own) in members.iter_mut().zip(names) {
                        *name = own;
                    }
                });
                all.push(("swapped", swapped));
            }
        }
        Some(Json::Array(items)) => {
            let version = |change: &dyn Fn(&mut Vec<Json>)| {
                let mut items = items.clone();
                change(&mut items);
                Json::Array(items)
            };
            all.push(("removed", version(&|items| drop(items.remove(at)))));
            let twice = version(&|items| {
                if let Some(item) = items.get(at).cloned() {
                    items.insert(at, item);
                }
            });
            all.push(("twice", twice));
            if items.len() > 1 {
                let other = (at + 1) % items.len();
                all.push(("swapped", version(&|items| items.swap(at, other))));
            }
        }
        Some(Json::Leaf(_)) | None => {}
    }
    all
}

/// Returns whether two values have the same type.
fn is_alike(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Leaf(one), Json::Leaf(other)) => {
            let kind = |raw: &str| match raw.bytes().next() {
                Some(b'"') => 0,
                Some(b't' | b'f') => 1,
                Some(b'n') => 2,
                _ => 3,
            };
            kind(one) == kind(other)
        }
        (Json::Array(_), Json::Array(_)) | (Json::Object(_), Json::Object(_)) => true,
        _ => false,
    }
}
