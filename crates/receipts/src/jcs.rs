//! The canonical form of version 2 receipts, a variant of RFC 8785 (evidence protocol, section 3.3).
//!
//! Strings and names are normalized to NFC, members are sorted by their UTF-8 bytes, and strings are escaped as Go
//! does. Only integers are allowed.
use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::canonical::push_string;
use super::json::{Node, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JcsError {
    /// Two names are equal after normalization.
    Collision,
    /// A number is not an integer.
    Fraction,
}

/// Appends the canonical text of `node`.
pub(crate) fn push(out: &mut String, node: &Node<'_>) -> Result<(), JcsError> {
    push_with(out, node, &|_, _| false)
}

/// Appends the signed text. The signed text is the canonical text with empty members of
/// `signature`.
pub(crate) fn push_preimage(out: &mut String, node: &Node<'_>) -> Result<(), JcsError> {
    push_with(out, node, &|depth, parent| {
        depth == 2 && parent == "signature"
    })
}

fn push_with(
    out: &mut String,
    node: &Node<'_>,
    blank: &dyn Fn(usize, &str) -> bool,
) -> Result<(), JcsError> {
    push_value(out, node, blank, 1, "")
}

fn push_value(
    out: &mut String,
    node: &Node<'_>,
    blank: &dyn Fn(usize, &str) -> bool,
    depth: usize,
    parent: &str,
) -> Result<(), JcsError> {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number => match node.raw.parse::<i64>() {
            Ok(value) if node.raw != "-0" => out.push_str(&value.to_string()),
            _ => return Err(JcsError::Fraction),
        },
        Value::String(text) => push_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_value(out, item, blank, depth.saturating_add(1), "")?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<(String, &Node<'_>)> = members
                .iter()
                .map(|(name, node)| (name.nfc().collect(), node))
                .collect();
            sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
            let names = sorted.iter().map(|(name, _)| name);
            if names
                .clone()
                .zip(names.skip(1))
                .any(|(one, next)| one == next)
            {
                return Err(JcsError::Collision);
            }
            let empty = blank(depth, parent);
            out.push('{');
            for (index, (name, node)) in sorted.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_string(out, name);
                out.push(':');
                if empty {
                    out.push_str("\"\"");
                } else {
                    push_value(out, node, blank, depth.saturating_add(1), name)?;
                }
            }
            out.push('}');
        }
    }
    Ok(())
}

/// Appends a string in NFC.
fn push_text(out: &mut String, text: &str) {
    if text.is_ascii() || is_nfc(text) {
        push_string(out, text);
    } else {
        push_string(out, &text.nfc().collect::<String>());
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::parse;
    use super::*;

    fn canonical(text: &str) -> Result<String, JcsError> {
        let mut out = String::new();
        push(&mut out, &parse(text, 16).unwrap()).map(|()| out)
    }

    #[test]
    fn names_and_strings_are_normalised_and_sorted_by_bytes() {
        // In UTF-16, U+1F600 is a surrogate pair and sorts before U+FFFD. In UTF-8, it sorts after U+FFFD.
        assert_eq!(
            canonical("{\"\u{1f600}\":1,\"\u{fffd}\":2,\"a\":\"e\u{301}<\"}").unwrap(),
            "{\"a\":\"\u{e9}\\u003c\",\"\u{fffd}\":2,\"\u{1f600}\":1}"
        );
    }

    #[test]
    fn collisions_and_fractions_are_refused() {
        assert_eq!(
            canonical("{\"e\u{301}\":1,\"\u{e9}\":2}"),
            Err(JcsError::Collision)
        );
        for number in ["1.0", "1e2", "-0"] {
            assert_eq!(canonical(number), Err(JcsError::Fraction), "{number}");
        }
        assert_eq!(canonical("-7").unwrap(), "-7");
    }

    #[test]
    fn the_preimage_blanks_the_signature_only_at_the_top() {
        let text = r#"{"payload":{"signature":{"x":"keep"}},"signature":{"b":"1","a":"2"}}"#;
        let mut out = String::new();
        push_preimage(&mut out, &parse(text, 16).unwrap()).unwrap();
        assert_eq!(
            out,
            r#"{"payload":{"signature":{"x":"keep"}},"signature":{"a":"","b":""}}"#
        );
    }
}
