//! A strict JSON reader for untrusted evidence (evidence protocol, section 8.1).
//!
//! The reader rejects texts that two readers could read differently: duplicate names (compared after unescaping), lone
//! surrogates, numbers beyond 2^53 - 1, and trailing data. The reader keeps the source text of every value, because the
//! outer chain hashes source bytes. The nesting is limited, so that deep nesting cannot exhaust the stack.
use parser::Parser;
use serde::de::DeserializeOwned;

mod parser;
mod typed;
mod value;

pub use typed::TypeError;
pub use value::{JsonError, JsonProblem, Node, Value};

/// Limit of nesting in a single receipt or a packet, including the root.
pub const MAX_DEPTH: usize = 128;
/// Limit of nesting in a recorder entry. Pipelock's verifier rejects an entry with one level more.
pub const MAX_ENTRY_DEPTH: usize = 127;

/// Parses one value with optional white space around it.
///
/// # Errors
/// Fails if the text is not strict JSON or is nested deeper than `max_depth`.
pub fn parse(text: &str, max_depth: usize) -> Result<Node<'_>, JsonError> {
    Parser::document(text, max_depth)
}

/// Reads a document as a type. The document must be strict JSON, and an array is not accepted in place of an object.
///
/// # Errors
/// Returns a description of the first deviation, with its place.
pub fn read_document<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let node = parse_bytes(bytes, MAX_DEPTH).map_err(|error| error.to_string())?;
    node.typed().map_err(|error| error.to_string())
}

/// Parses one value, like [`parse`], from bytes.
///
/// # Errors
/// Fails if the bytes are not UTF-8 or not strict JSON, or are nested deeper than `max_depth`.
pub fn parse_bytes(bytes: &[u8], max_depth: usize) -> Result<Node<'_>, JsonError> {
    let text = str::from_utf8(bytes).map_err(|error| JsonError {
        offset: error.valid_up_to(),
        problem: JsonProblem::Utf8,
    })?;
    parse(text, max_depth)
}

/// Returns `name` in lower case as Go's JSON decoder folds it: ASCII, and the two letters beyond ASCII that fold to `k`
/// and `s`.
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
        #[derive(serde::Deserialize)]
        struct Inner {
            name: String,
        }
        #[derive(serde::Deserialize)]
        struct Outer {
            inner: Inner,
        }
        let read = |text: &str| read_document::<Outer>(text.as_bytes()).map(|one| one.inner.name);
        assert_eq!(read(r#"{"inner":{"name":"a"}}"#).as_deref(), Ok("a"));
        for (text, place) in [(r#"{"inner":["a"]}"#, "inner: "), (r#"[{"name":"a"}]"#, "")] {
            let found = format!("{place}an array instead of an object");
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
