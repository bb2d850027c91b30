//! Writes the JSON text that is signed. The text is compact, its members have a fixed order, and strings are escaped as
//! in Go (evidence protocol, section 2.3).

const HEX: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
];

/// Appends `text` as a JSON string, quotes included, escaped as Go's `encoding/json` does.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// Appends the escaped characters of `text` without the quotes.
fn push_escaped(out: &mut String, text: &str) {
    if text.bytes().all(is_plain) {
        out.push_str(text);
        return;
    }
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            '\0'..='\u{1f}' => {
                out.push_str("\\u00");
                let code = u32::from(character);
                for nibble in [code >> 4, code & 0xf] {
                    let digit = usize::try_from(nibble).unwrap_or(0);
                    out.push(HEX.get(digit).copied().unwrap_or('0'));
                }
            }
            other => out.push(other),
        }
    }
}

/// Whether a byte is written unescaped. Non-ASCII bytes do not count as plain, because U+2028 and U+2029 are escaped.
fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7f) && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

/// Writes one JSON object. The caller adds its members in the canonical order.
#[derive(Debug)]
pub struct ObjectWriter<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Opens an object at the end of `out`.
    pub fn new(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, first: true }
    }

    /// Writes a member name and returns the text, so that the caller can append the value. The name
    /// must be plain ASCII.
    pub fn name(&mut self, name: &str) -> &mut String {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
        self.out
    }

    /// Writes a string member.
    pub fn string(&mut self, name: &str, value: &str) -> &mut Self {
        push_string(self.name(name), value);
        self
    }

    /// Writes a string member unless it is empty.
    pub fn optional(&mut self, name: &str, value: &str) -> &mut Self {
        if !value.is_empty() {
            self.string(name, value);
        }
        self
    }

    /// Writes an unsigned integer member.
    pub fn number(&mut self, name: &str, value: u64) -> &mut Self {
        let digits = value.to_string();
        self.name(name).push_str(&digits);
        self
    }

    /// Writes a member whose value is already JSON text.
    pub fn raw(&mut self, name: &str, json: &str) -> &mut Self {
        self.name(name).push_str(json);
        self
    }

    /// Closes the object.
    pub fn end(&mut self) {
        self.out.push('}');
    }
}

/// Appends JSON source text without the white space between its values, and escapes the characters that Go always
/// escapes. Does not change numbers, existing escapes, or the order of members (section 2.3). The receipt hash covers
/// the unsigned `ext` member in this form.
pub fn push_compact(out: &mut String, source: &str) {
    let mut in_string = false;
    let mut escaped = false;
    for character in source.chars() {
        match character {
            ' ' | '\t' | '\n' | '\r' if !in_string => continue,
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
        if escaped {
            escaped = false;
        } else if in_string && character == '\\' {
            escaped = true;
        } else if character == '"' {
            in_string = !in_string;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = String::new();
        push_string(&mut out, text);
        out
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        assert_eq!(escaped("a/b\u{7f}é"), "\"a/b\u{7f}é\"");
        assert_eq!(
            escaped("<&>\"\\\u{8}\u{c}\n\r\t"),
            r#""\u003c\u0026\u003e\"\\\b\f\n\r\t""#
        );
        assert_eq!(
            escaped("\u{0}\u{1f}\u{2028}\u{2029}\u{2027}"),
            "\"\\u0000\\u001f\\u2028\\u2029\u{2027}\""
        );
    }

    #[test]
    fn compact_text_keeps_numbers_and_escapes() {
        let mut out = String::new();
        push_compact(&mut out, "{ \"a b\" : [1E+2, \"\\\" <\\/\\u00e9\"] }");
        assert_eq!(out, "{\"a b\":[1E+2,\"\\\" \\u003c\\/\\u00e9\"]}");
    }

    #[test]
    fn object_members_keep_their_order() {
        let mut out = String::new();
        ObjectWriter::new(&mut out)
            .string("z", "1")
            .optional("y", "")
            .number("a", 7)
            .raw("n", "null")
            .end();
        assert_eq!(out, r#"{"z":"1","a":7,"n":null}"#);
    }
}
