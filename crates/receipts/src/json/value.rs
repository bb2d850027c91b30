//! A JSON value with its source text, and why a text is none.
use std::borrow::Cow;
use std::fmt;

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
