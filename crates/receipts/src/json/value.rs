//! JSON values with their source text, and the errors of the parser.
use std::borrow::Cow;
use std::fmt;

/// A value and its source text.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    /// The exact source text.
    pub raw: &'a str,
    /// The parsed value.
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
    /// A number of at most 2^53 - 1 in magnitude. The text of the number is the node's `raw`.
    Number,
    /// `{…}`, in source order and without duplicate names.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
    /// A string, unescaped.
    String(Cow<'a, str>),
}

impl<'a> Node<'a> {
    /// Returns the member `name`, or `None` if the value is not an object or has no such member.
    pub fn member(&self, name: &str) -> Option<&Node<'a>> {
        self.members()?
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, node)| node)
    }

    /// Returns the members, or `None` if the value is not an object.
    pub fn members(&self) -> Option<&[(Cow<'a, str>, Node<'a>)]> {
        if let Value::Object(members) = &self.value {
            Some(members)
        } else {
            None
        }
    }

    /// Returns the items, or `None` if the value is not an array.
    pub fn items(&self) -> Option<&[Node<'a>]> {
        if let Value::Array(items) = &self.value {
            Some(items)
        } else {
            None
        }
    }

    /// Returns the text, or `None` if the value is not a string.
    pub fn text(&self) -> Option<&str> {
        if let Value::String(text) = &self.value {
            Some(text)
        } else {
            None
        }
    }

    /// Returns the text of the string member `name`, or "" if it is absent or not a string.
    pub fn member_text(&self, name: &str) -> &str {
        self.member(name).and_then(Node::text).unwrap_or("")
    }

    /// Returns the value of an unsigned integer without a sign, fraction, or exponent.
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

    /// Returns the unsigned integer member `name`.
    pub fn member_unsigned(&self, name: &str) -> Option<u64> {
        self.member(name).and_then(Node::unsigned)
    }

    /// Whether the value is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }
}

/// The reason why a text is not strict JSON, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// Byte offset in the text.
    pub offset: usize,
    /// The problem.
    pub problem: JsonProblem,
}

/// The reason why a text is not strict JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonProblem {
    /// A byte order mark.
    ByteOrderMark,
    /// A raw control character in a string.
    Control,
    /// A name occurs twice in one object.
    Duplicate(String),
    /// The text ends too early.
    End,
    /// A bad escape in a string.
    Escape,
    /// One half of a surrogate pair.
    LoneSurrogate,
    /// A number that is malformed or beyond 2^53 - 1.
    Number,
    /// A byte that the grammar does not allow.
    Syntax,
    /// Nesting beyond the limit.
    TooDeep,
    /// Text after the value.
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
