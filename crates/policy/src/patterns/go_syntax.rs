//! Translates a regular expression from the syntax of Go (RE2) into that of the crate `regex`.
//!
//! The crate gives some texts another meaning: `\d`, `\w`, `\s`, and `\b` are not limited to ASCII, `\<` is the start of
//! a word, and `[`, `&&`, `--`, and `~~` are operators in a class. It rejects other texts, such as `a{x`, `\Q…\E`, and
//! octal numbers. The translation writes every character so that both read it in the same way.

const UNFINISHED: &str = "ends in the middle of an escape, a class, or a group";
const UNKNOWN_ESCAPE: &str = "contains an escape that RE2 does not have";
const UNKNOWN_GROUP: &str = "contains a group that RE2 does not have, such as a lookahead";
const UNKNOWN_CLASS: &str = "contains a class that RE2 does not have";

/// Maximum number of a repetition, as in RE2.
const MAX_REPEAT: u32 = 1_000;

/// Translates an expression. Expressions that Go rejects need not be rejected here, because Pipelock rejects them.
///
/// # Errors
/// Returns why the expression cannot be translated, as a phrase after its name.
pub(super) fn translated(pattern: &str) -> Result<String, &'static str> {
    let mut reader = Reader {
        rest: pattern,
        out: String::new(),
    };
    while let Some(one) = reader.next() {
        match one {
            '(' => reader.group()?,
            '[' => reader.class()?,
            '\\' => reader.escape()?,
            '{' => reader.repeat()?,
            '|' | ')' | '^' | '$' | '.' | '*' | '+' | '?' => reader.out.push(one),
            _ => reader.literal(one),
        }
    }
    Ok(reader.out)
}

struct Reader<'p> {
    rest: &'p str,
    out: String,
}

impl<'p> Reader<'p> {
    fn next(&mut self) -> Option<char> {
        let one = self.rest.chars().next()?;
        self.rest = self.rest.get(one.len_utf8()..).unwrap_or_default();
        Some(one)
    }

    fn skip(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Returns the text before `end`, and continues after `end`.
    fn until(&mut self, end: &str) -> Result<&'p str, &'static str> {
        let (text, rest) = self.rest.split_once(end).ok_or(UNFINISHED)?;
        self.rest = rest;
        Ok(text)
    }

    fn literal(&mut self, one: char) {
        if one.is_ascii() && !one.is_ascii_alphanumeric() {
            self.out.extend(one.escape_unicode());
        } else {
            self.out.push(one);
        }
    }

    /// Reads a group after its parenthesis. No group captures.
    fn group(&mut self) -> Result<(), &'static str> {
        if self.skip("?P<") || self.skip("?<") {
            let name = self.until(">")?;
            let is_word = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
            if name.is_empty() || !name.bytes().all(is_word) {
                return Err(UNKNOWN_GROUP);
            }
        } else if self.skip("?") {
            self.out.push_str("(?");
            loop {
                let one = self.next().ok_or(UNFINISHED)?;
                if !matches!(one, 'i' | 'm' | 's' | 'U' | '-' | ':' | ')') {
                    return Err(UNKNOWN_GROUP);
                }
                self.out.push(one);
                if matches!(one, ':' | ')') {
                    return Ok(());
                }
            }
        }
        self.out.push_str("(?:");
        Ok(())
    }

    /// Reads a repetition after its brace. A brace that is not the start of a repetition is a literal.
    fn repeat(&mut self) -> Result<(), &'static str> {
        let number = |text: &str| {
            let has_zero = text.len() > 1 && text.starts_with('0');
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number && !has_zero
        };
        let Some((inside, rest)) = self.rest.split_once('}') else {
            self.literal('{');
            return Ok(());
        };
        let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
        if !number(least) || !(most.is_empty() || number(most)) {
            self.literal('{');
            return Ok(());
        }
        let is_small = |text: &str| text.parse().is_ok_and(|times: u32| times <= MAX_REPEAT);
        if !is_small(least) || !(most.is_empty() || is_small(most)) {
            return Err("repeats a part more than 1,000 times");
        }
        self.rest = rest;
        self.out.extend(["{", inside, "}"]);
        Ok(())
    }

    /// Reads an escape outside a class, after its backslash.
    fn escape(&mut self) -> Result<(), &'static str> {
        if self.class_escape()? {
            return Ok(());
        }
        for (name, written) in [
            ("A", "\\A"),
            ("z", "\\z"),
            ("b", "(?-u:\\b)"),
            ("B", "(?-u:\\B)"),
        ] {
            if self.skip(name) {
                self.out.push_str(written);
                return Ok(());
            }
        }
        if self.skip("Q") {
            let (text, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
            self.rest = rest;
            text.chars().for_each(|one| self.literal(one));
            return Ok(());
        }
        let one = self.character()?;
        self.literal(one);
        Ok(())
    }

    /// Reads an escape that stands for several characters, after its backslash. Returns false for another escape.
    fn class_escape(&mut self) -> Result<bool, &'static str> {
        for (name, written) in [
            ("d", "[0-9]"),
            ("D", "[^0-9]"),
            ("s", "[\\t\\n\\x0C\\r\\x20]"),
            ("S", "[^\\t\\n\\x0C\\r\\x20]"),
            ("w", "[0-9A-Za-z_]"),
            ("W", "[^0-9A-Za-z_]"),
        ] {
            if self.skip(name) {
                self.out.push_str(written);
                return Ok(true);
            }
        }
        let is_negated = self.rest.starts_with('P');
        if !self.skip("p") && !self.skip("P") {
            return Ok(false);
        }
        let letter;
        let name = if self.skip("{") {
            self.until("}")?
        } else {
            letter = self.next().ok_or(UNFINISHED)?.to_string();
            &letter
        };
        let (name, is_negated) = match name.strip_prefix('^') {
            Some(name) => (name, !is_negated),
            None => (name, is_negated),
        };
        let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_- ".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_in_name) {
            return Err(UNKNOWN_CLASS);
        }
        let start = if is_negated { "\\P{" } else { "\\p{" };
        self.out.extend([start, name, "}"]);
        Ok(true)
    }

    /// Reads an escape that stands for one character, after its backslash.
    fn character(&mut self) -> Result<char, &'static str> {
        let one = self.next().ok_or(UNFINISHED)?;
        Ok(match one {
            'a' => '\x07',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'x' if self.skip("{") => hexadecimal(self.until("}")?)?,
            'x' => {
                let (digits, rest) = self.rest.split_at_checked(2).ok_or(UNKNOWN_ESCAPE)?;
                self.rest = rest;
                hexadecimal(digits)?
            }
            '0'..='7' => {
                let is_octal = |byte: &u8| matches!(byte, b'0'..=b'7');
                let more = self.rest.bytes().take(2).take_while(is_octal).count();
                if more == 0 && one != '0' {
                    return Err(UNKNOWN_ESCAPE);
                }
                let (digits, rest) = self.rest.split_at_checked(more).unwrap_or_default();
                self.rest = rest;
                let number = u32::from_str_radix(&format!("{one}{digits}"), 8);
                number.ok().and_then(char::from_u32).ok_or(UNKNOWN_ESCAPE)?
            }
            _ if one.is_ascii() && !one.is_ascii_alphanumeric() => one,
            _ => return Err(UNKNOWN_ESCAPE),
        })
    }

    /// Reads a class after its bracket.
    fn class(&mut self) -> Result<(), &'static str> {
        let start = if self.skip("^") { "[^" } else { "[" };
        self.out.push_str(start);
        let mut is_first = true;
        while is_first || !self.skip("]") {
            is_first = false;
            if self.rest.starts_with("[:")
                && self.rest.get(2..).is_some_and(|rest| rest.contains(":]"))
            {
                let name = self.until(":]")?.get(2..).unwrap_or_default();
                let bare = name.strip_prefix('^').unwrap_or(name);
                if !bare.bytes().all(|byte| byte.is_ascii_lowercase()) {
                    return Err(UNKNOWN_CLASS);
                }
                self.out.extend(["[:", name, ":]"]);
                continue;
            }
            let one = self.next().ok_or(UNFINISHED)?;
            if one == '\\' && self.class_escape()? {
                continue;
            }
            let from = self.class_character(one)?;
            let after = self.rest.strip_prefix('-');
            let is_range = after.is_some_and(|after| !after.is_empty() && !after.starts_with(']'));
            self.literal(from);
            if is_range && self.skip("-") {
                let one = self.next().ok_or(UNFINISHED)?;
                let to = self.class_character(one)?;
                self.out.push('-');
                self.literal(to);
            }
        }
        self.out.push(']');
        Ok(())
    }

    fn class_character(&mut self, one: char) -> Result<char, &'static str> {
        if one == '\\' {
            self.character()
        } else {
            Ok(one)
        }
    }
}

fn hexadecimal(digits: &str) -> Result<char, &'static str> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u32::from_str_radix(digits, 16);
    let one = number.ok().filter(|_| is_number).and_then(char::from_u32);
    one.ok_or("contains the number of a character that does not exist")
}
