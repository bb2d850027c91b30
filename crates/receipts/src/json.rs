//! A strict JSON reader for untrusted evidence (evidence protocol, section 8.1).
//!
//! It refuses what two readers could understand differently: duplicate keys (also after
//! unescaping), lone surrogates, numbers that a double cannot hold exactly, trailing data. It keeps
//! the source text of every value, since the outer chain hashes source bytes. Nesting is counted
//! before it is entered, so depth never costs more stack than the bound allows.
use std::borrow::Cow;
use std::fmt;

use parser::Parser;
use serde::Serialize;
use serde::de::DeserializeOwned;

mod parser;

/// The deepest nesting in a single receipt or a packet, the root included.
pub const MAX_DEPTH: usize = 128;
/// The deepest nesting in a recorder entry; the reference refuses one level more.
pub const MAX_ENTRY_DEPTH: usize = 127;

/// A value and its source text.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    /// The exact source text.
    pub raw: &'a str,
    /// What it means.
    pub value: Value<'a>,
}

/// A JSON value.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// `[…]`.
    Array(Vec<Node<'a>>),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
    /// A number within the safe range; its text is the node's `raw`.
    Number,
    /// `{…}` in source order, without duplicate names.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
    /// A string, unescaped.
    String(Cow<'a, str>),
}

impl<'a> Node<'a> {
    /// The member `name` of an object.
    pub fn member(&self, name: &str) -> Option<&Node<'a>> {
        self.members()?
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, node)| node)
    }

    /// The members of an object.
    pub fn members(&self) -> Option<&[(Cow<'a, str>, Node<'a>)]> {
        if let Value::Object(members) = &self.value {
            Some(members)
        } else {
            None
        }
    }

    /// The items of an array.
    pub fn items(&self) -> Option<&[Node<'a>]> {
        if let Value::Array(items) = &self.value {
            Some(items)
        } else {
            None
        }
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&str> {
        if let Value::String(text) = &self.value {
            Some(text)
        } else {
            None
        }
    }

    /// The text of the string member `name`; empty when it is absent or no string.
    pub fn member_text(&self, name: &str) -> &str {
        self.member(name).and_then(Node::text).unwrap_or("")
    }

    /// An unsigned integer written in plain digits: no sign, fraction or exponent.
    pub fn unsigned(&self) -> Option<u64> {
        match self.value {
            Value::Number if self.raw.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.raw.parse().ok()
            }
            Value::Number
            | Value::Array(_)
            | Value::Bool(_)
            | Value::Null
            | Value::Object(_)
            | Value::String(_) => None,
        }
    }

    /// The unsigned integer member `name`.
    pub fn member_unsigned(&self, name: &str) -> Option<u64> {
        self.member(name).and_then(Node::unsigned)
    }

    /// Whether the value is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }
}

/// Why a text is not acceptable JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// Byte offset in the text.
    pub offset: usize,
    /// What is wrong.
    pub problem: JsonProblem,
}

/// What is wrong with a JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonProblem {
    /// A byte order mark.
    ByteOrderMark,
    /// A raw control character in a string.
    Control,
    /// A name that occurs twice in one object.
    Duplicate(String),
    /// The text ends too early.
    End,
    /// A bad escape in a string.
    Escape,
    /// Half of a surrogate pair.
    LoneSurrogate,
    /// A number beyond 2^53 - 1 or of another form than JSON's.
    Number,
    /// A byte that fits no grammar rule.
    Syntax,
    /// Nested deeper than the bound.
    TooDeep,
    /// Something after the value.
    Trailing,
    /// Bytes that are not UTF-8.
    Utf8,
}

impl fmt::Display for JsonError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            JsonProblem::ByteOrderMark => formatter.write_str("a byte order mark"),
            JsonProblem::Control => formatter.write_str("a raw control character in a string"),
            JsonProblem::Duplicate(name) => write!(formatter, "the name {name:?} twice"),
            JsonProblem::End => formatter.write_str("the end of the text"),
            JsonProblem::Escape => formatter.write_str("a bad escape"),
            JsonProblem::LoneSurrogate => formatter.write_str("a lone surrogate"),
            JsonProblem::Number => formatter.write_str("a number that is malformed or over 2^53-1"),
            JsonProblem::Syntax => formatter.write_str("a byte that is not JSON"),
            JsonProblem::TooDeep => formatter.write_str("too many nesting levels"),
            JsonProblem::Trailing => formatter.write_str("text after the value"),
            JsonProblem::Utf8 => formatter.write_str("bytes that are not UTF-8"),
        }?;
        write!(formatter, " at byte {}", self.offset)
    }
}

impl std::error::Error for JsonError {}

/// Parses one value; white space may stand around it, nothing else.
///
/// # Errors
/// When the text is not strict JSON or nested deeper than `max_depth`.
pub fn parse(text: &str, max_depth: usize) -> Result<Node<'_>, JsonError> {
    Parser::document(text, max_depth)
}

/// Reads a document of a known shape: strict JSON, in which no array stands for an object. The reader of shapes takes
/// members by position, too, and another reader would find none.
///
/// # Errors
/// What is wrong, in words.
pub fn read_document<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let node = parse_bytes(bytes, MAX_DEPTH).map_err(|error| error.to_string())?;
    document_of(&node, bytes)
}

/// [`read_document`] of bytes that have been parsed.
///
/// # Errors
/// As there.
pub fn document_of<T: Serialize + DeserializeOwned>(
    node: &Node<'_>,
    bytes: &[u8],
) -> Result<T, String> {
    let document: T = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let read = serde_json::to_value(&document).map_err(|error| error.to_string())?;
    match array_for_object(node, &read) {
        Some(member) => Err(format!("{member}: an array in the place of an object")),
        None => Ok(document),
    }
}

/// The first member that is an array, although it was read as an object: a reader of positions takes one for the other.
fn array_for_object(node: &Node<'_>, read: &serde_json::Value) -> Option<String> {
    match (&node.value, read) {
        (Value::Array(_), serde_json::Value::Object(_)) => Some(String::new()),
        (Value::Object(members), serde_json::Value::Object(values)) => {
            members.iter().find_map(|(name, child)| {
                let below = array_for_object(child, values.get(name.as_ref())?)?;
                let dot = if below.is_empty() { "" } else { "." };
                Some(format!("{name}{dot}{below}"))
            })
        }
        _ => None,
    }
}

/// [`parse`] on bytes.
///
/// # Errors
/// As for [`parse`], and when the bytes are not UTF-8.
pub fn parse_bytes(bytes: &[u8], max_depth: usize) -> Result<Node<'_>, JsonError> {
    let text = str::from_utf8(bytes).map_err(|error| JsonError {
        offset: error.valid_up_to(),
        problem: JsonProblem::Utf8,
    })?;
    parse(text, max_depth)
}

/// The lower case of `name` as Go's JSON decoder folds names: ASCII, and the two letters beyond
/// ASCII that fold to `k` and `s`.
pub fn folded(name: &str) -> String {
    name.chars()
        .map(|character| match character {
            '\u{212a}' => 'k',
            '\u{17f}' => 's',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> JsonProblem {
        parse(text, 8).unwrap_err().problem
    }

    #[test]
    fn an_array_is_no_object() {
        #[derive(Serialize, serde::Deserialize)]
        struct Inner {
            name: String,
        }
        #[derive(Serialize, serde::Deserialize)]
        struct Outer {
            inner: Inner,
        }
        let read = |text: &str| read_document::<Outer>(text.as_bytes()).map(|one| one.inner.name);
        assert_eq!(read(r#"{"inner":{"name":"a"}}"#).as_deref(), Ok("a"));
        for (text, member) in [(r#"{"inner":["a"]}"#, "inner"), (r#"[{"name":"a"}]"#, "")] {
            let found = format!("{member}: an array in the place of an object");
            assert_eq!(read(text), Err(found), "{text}");
        }
    }

    #[test]
    fn ambiguous_texts_are_refused() {
        for (text, expected) in [
            ("", JsonProblem::End),
            ("\u{feff}{}", JsonProblem::ByteOrderMark),
            ("{} {}", JsonProblem::Trailing),
            (r#"{"v":1,"\u0076":2}"#, JsonProblem::Duplicate("v".into())),
            (
                r#"{"a":[{"b":1,"b":1}]}"#,
                JsonProblem::Duplicate("b".into()),
            ),
            (r#"{"a":1,,"b":2}"#, JsonProblem::Syntax),
            (r#"{"a":1,}"#, JsonProblem::Syntax),
            ("[1,]", JsonProblem::Syntax),
            ("NaN", JsonProblem::Syntax),
            ("-Infinity", JsonProblem::Number),
            ("01", JsonProblem::Number),
            ("1.", JsonProblem::Number),
            ("+1", JsonProblem::Syntax),
            ("9007199254740992", JsonProblem::Number),
            ("1e300", JsonProblem::Number),
            ("123456789012345678901234567890", JsonProblem::Number),
            (r#""\ud800""#, JsonProblem::LoneSurrogate),
            (r#""\udc00\ud800""#, JsonProblem::LoneSurrogate),
            (r#""\ud800\u0041""#, JsonProblem::LoneSurrogate),
            (r#""\x""#, JsonProblem::Escape),
            ("\"\u{1}\"", JsonProblem::Control),
            ("\"a", JsonProblem::End),
            ("truth", JsonProblem::Syntax),
            ("[[[[[[[[[]]]]]]]]]", JsonProblem::TooDeep),
        ] {
            assert_eq!(problem(text), expected, "{text}");
        }
        assert_eq!(
            parse_bytes(b"\"\xff\"", 8).unwrap_err().problem,
            JsonProblem::Utf8
        );
    }

    #[test]
    fn values_keep_their_source_text() {
        let node = parse(
            " {\"a\" : [1E+2, -0.5], \"\\u00e9\\ud83d\\ude00\":null} ",
            8,
        )
        .unwrap();
        assert_eq!(node.member("a").unwrap().raw, "[1E+2, -0.5]");
        assert!(node.member("é😀").unwrap().is_null());
        assert_eq!(node.member_unsigned("a"), None);
        assert!(parse("[[[[[[[[]]]]]]]]", 8).is_ok());
        assert_eq!(
            parse("9007199254740991", 8).unwrap().unsigned(),
            Some(9_007_199_254_740_991)
        );
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        let text = "[".repeat(2_000_000);
        assert_eq!(problem(&text), JsonProblem::TooDeep);
    }

    #[test]
    fn duplicates_in_large_objects_are_found() {
        let members: Vec<String> = (0..100).map(|n| format!("\"m{}\":0", n % 99)).collect();
        let text = format!("{{{}}}", members.join(","));
        assert_eq!(problem(&text), JsonProblem::Duplicate("m0".into()));
    }

    #[test]
    fn names_fold_as_in_go() {
        assert_eq!(folded("Se\u{17f}\u{17f}ion_ID"), "session_id");
        assert_eq!(folded("\u{212a}ind"), "kind");
    }
}
