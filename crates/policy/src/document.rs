//! Reads a YAML document into a tree that keeps line numbers, and writes it back.
//!
//! A text must be one document without duplicate keys or unknown tags. The depth, the size, and the alias expansion of
//! the document are limited.
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Error as YamlError, Spanned};

use super::brackets;
use super::error::PolicyError;
use super::layout;

/// The longest accepted document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// A value and the line on which it starts.
#[derive(Debug, Clone)]
pub struct Node {
    /// Line in the document, from 1; 0 for a node that was not read from a document.
    pub line: u64,
    /// The content of the node.
    pub value: Value,
}

/// The content of a YAML node.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~` or an empty value.
    Null,
    /// A boolean, `true` or `false`.
    Bool(bool),
    /// An integer that fits into 64 bits.
    Int(i64),
    /// A number that is not an integer.
    Float(f64),
    /// A string.
    Text(String),
    /// A sequence of nodes.
    List(Vec<Node>),
    /// A mapping, in document order.
    Map(Vec<MappingEntry>),
}

/// A key of a mapping, with its value.
#[derive(Debug, Clone)]
pub struct MappingEntry {
    /// The name of the key.
    pub key: String,
    /// Line of the key.
    pub line: u64,
    /// The value of the key.
    pub value: Node,
}

/// Nodes are equal when their values are equal. Line numbers are not compared.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// Line numbers are not compared.
impl PartialEq for MappingEntry {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.value == other.value
    }
}

impl Node {
    /// Returns a node that was not read from a document.
    pub fn of(value: Value) -> Self {
        Self { line: 0, value }
    }

    /// Returns a text node that was not read from a document.
    pub fn text(text: &str) -> Self {
        Self::of(Value::Text(text.to_owned()))
    }

    /// Returns the text, if the value is text.
    pub fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value {
            Some(text)
        } else {
            None
        }
    }

    /// Returns the nodes, if the value is a list.
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Value::List(nodes) = &self.value {
            Some(nodes)
        } else {
            None
        }
    }

    /// Returns the value, if it is an integer above zero.
    pub fn as_count(&self) -> Option<u64> {
        if let Value::Int(number) = self.value {
            u64::try_from(number).ok().filter(|number| *number > 0)
        } else {
            None
        }
    }

    /// Returns the entries, if the value is a mapping.
    pub fn as_map(&self) -> Option<&[MappingEntry]> {
        if let Value::Map(entries) = &self.value {
            Some(entries)
        } else {
            None
        }
    }

    /// Returns the entries for modification, if the value is a mapping.
    pub fn as_map_mut(&mut self) -> Option<&mut Vec<MappingEntry>> {
        if let Value::Map(entries) = &mut self.value {
            Some(entries)
        } else {
            None
        }
    }
}

impl MappingEntry {
    /// Returns an entry that was not read from a document.
    pub fn of(key: &str, value: Node) -> Self {
        Self {
            key: key.to_owned(),
            line: 0,
            value,
        }
    }
}

/// Reads `text`, which must be one document with a mapping at the top.
///
/// # Errors
/// Returns [`PolicyError`] if the text is too long, is not one document with a mapping at the top, or repeats a key.
/// The error names the line and, for a duplicate, the key. The error never contains a value.
pub fn read(text: &str) -> Result<Vec<MappingEntry>, PolicyError> {
    if text.len() > MAX_DOCUMENT_BYTES {
        return Err(PolicyError::syntax(0, "the document is longer than 1 MiB"));
    }
    let node: Node = serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| explain(&error, text))?;
    if let Value::Map(entries) = node.value {
        return Ok(entries);
    }
    let what = "the document is not a mapping of keys";
    Err(PolicyError::syntax(node.line, what))
}

/// Writes a mapping as a YAML document and checks that it reads back unchanged.
///
/// # Errors
/// Returns [`PolicyError::NotFaithful`] if the written document does not read back unchanged.
pub fn write(entries: &[MappingEntry]) -> Result<String, PolicyError> {
    let node = Node::of(Value::Map(entries.to_vec()));
    let text = serde_saphyr::to_string(&node).map_err(|_error| PolicyError::NotFaithful)?;
    if read(&text).is_ok_and(|again| again == entries) {
        Ok(text)
    } else {
        Err(PolicyError::NotFaithful)
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 100_000,
            max_nodes: 50_000,
            max_depth: 32,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_merge_keys: 1_000,
            max_total_scalar_bytes: MAX_DOCUMENT_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 50_000,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// Reduces the parser's error to a line number and a sentence from this crate, because the parser's own text may quote
/// the document.
fn explain(error: &YamlError, text: &str) -> PolicyError {
    let line = error.location().map_or(0, |location| location.line());
    let mut cause = error.without_snippet();
    while let YamlError::AliasError { error, .. } = cause {
        cause = error.without_snippet();
    }
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a foreign, non-exhaustive enum; all remaining variants share one sentence"
    )]
    let what = match cause {
        YamlError::DuplicateMappingKey { key, .. } => {
            return PolicyError::DuplicateKey {
                line,
                key: PolicyError::shown(key.as_deref().unwrap_or_default()),
            };
        }
        YamlError::MultipleDocuments { .. } => "a second document follows the first",
        YamlError::Eof { .. } => "the document ends too early",
        YamlError::Budget { .. }
        | YamlError::AliasReplayLimitExceeded { .. }
        | YamlError::AliasExpansionLimitExceeded { .. }
        | YamlError::AliasReplayStackDepthExceeded { .. }
        | YamlError::AliasReplayCounterOverflow { .. } => {
            "the document is too deep, too large, or expands its aliases too far"
        }
        YamlError::UnknownAnchor { .. } => "an alias refers to an anchor that is not defined",
        _ => "not valid YAML for a policy",
    };
    let is_about_layout = !matches!(
        cause,
        YamlError::MultipleDocuments { .. } | YamlError::Budget { .. }
    );
    if is_about_layout {
        let mistake = brackets::mistake(text, line).or_else(|| layout::mistake(text, line));
        if let Some((line, what)) = mistake {
            return PolicyError::syntax(line, what);
        }
    }
    PolicyError::syntax(line, what)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a scalar, a list, or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        i64::try_from(value)
            .map(Value::Int)
            .map_err(|_out_of_range| E::custom("an integer out of range"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = access.next_element::<Node>()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries: Vec<MappingEntry> = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let value = access.next_value::<Node>()?;
            if entries.iter().any(|entry| entry.key == key.value) {
                return Err(A::Error::custom("a duplicate key"));
            }
            entries.push(MappingEntry {
                key: key.value,
                line: key.referenced.line(),
                value,
            });
        }
        Ok(Value::Map(entries))
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => serializer.serialize_i64(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Text(value) => serializer.serialize_str(value),
            Value::List(nodes) => {
                let mut list = serializer.serialize_seq(Some(nodes.len()))?;
                for node in nodes {
                    list.serialize_element(node)?;
                }
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for entry in entries {
                    map.serialize_entry(&entry.key, &entry.value)?;
                }
                map.end()
            }
        }
    }
}
