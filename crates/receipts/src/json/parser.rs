//! The parser behind [`parse`](super::parse).
use std::borrow::Cow;

use super::value::{JsonError, JsonProblem, Node, Value};

/// The largest magnitude that every reader keeps exact, 2^53 - 1.
const MAX_SAFE: u64 = 9_007_199_254_740_991;

/// The parser's place in the text.
pub(super) struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth_left: usize,
}

impl<'a> Parser<'a> {
    /// Parses a whole text.
    pub(super) fn document(text: &'a str, max_depth: usize) -> Result<Node<'a>, JsonError> {
        let mut parser = Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            depth_left: max_depth,
        };
        if text.starts_with('\u{feff}') {
            return Err(parser.error(JsonProblem::ByteOrderMark));
        }
        parser.space();
        let node = parser.value()?;
        parser.space();
        if parser.at < parser.bytes.len() {
            return Err(parser.error(JsonProblem::Trailing));
        }
        Ok(node)
    }

    fn error(&self, problem: JsonProblem) -> JsonError {
        JsonError {
            offset: self.at,
            problem,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn advance(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.advance();
        }
    }

    fn from(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or("")
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        match self.peek() {
            Some(found) if found == byte => {
                self.advance();
                Ok(())
            }
            Some(_) => Err(self.error(JsonProblem::Syntax)),
            None => Err(self.error(JsonProblem::End)),
        }
    }

    fn value(&mut self) -> Result<Node<'a>, JsonError> {
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => self.nested(Self::object)?,
            Some(b'[') => self.nested(Self::array)?,
            Some(b'"') => Value::String(self.string()?),
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) => return Err(self.error(JsonProblem::Syntax)),
            None => return Err(self.error(JsonProblem::End)),
        };
        Ok(Node {
            raw: self.from(start),
            value,
        })
    }

    /// Enters one level of nesting. The limit is checked before the recursion.
    fn nested(
        &mut self,
        parse: fn(&mut Self) -> Result<Value<'a>, JsonError>,
    ) -> Result<Value<'a>, JsonError> {
        let left = self
            .depth_left
            .checked_sub(1)
            .ok_or_else(|| self.error(JsonProblem::TooDeep))?;
        self.depth_left = left;
        self.advance();
        let value = parse(self)?;
        self.depth_left = left.saturating_add(1);
        Ok(value)
    }

    fn object(&mut self) -> Result<Value<'a>, JsonError> {
        let mut members: Vec<(Cow<'a, str>, Node<'a>)> = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.advance();
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            if self.peek().is_some_and(|byte| byte != b'"') {
                return Err(self.error(JsonProblem::Syntax));
            }
            let start = self.at;
            let name = self.string()?;
            // Signed objects are small. In a large object, duplicates are searched for once, in a sorted copy of its
            // names.
            if members.len() < 64 && members.iter().any(|(known, _)| *known == name) {
                self.at = start;
                return Err(self.error(JsonProblem::Duplicate(name.into_owned())));
            }
            self.space();
            self.expect(b':')?;
            self.space();
            let node = self.value()?;
            members.push((name, node));
            self.space();
            match self.peek() {
                Some(b',') => self.advance(),
                Some(b'}') => {
                    self.advance();
                    break;
                }
                Some(_) => return Err(self.error(JsonProblem::Syntax)),
                None => return Err(self.error(JsonProblem::End)),
            }
        }
        if members.len() >= 64 {
            let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
            names.sort_unstable();
            for (one, next) in names.iter().zip(names.iter().skip(1)) {
                if one == next {
                    return Err(self.error(JsonProblem::Duplicate(String::from(*one))));
                }
            }
        }
        Ok(Value::Object(members))
    }

    fn array(&mut self) -> Result<Value<'a>, JsonError> {
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.advance();
            return Ok(Value::Array(items));
        }
        loop {
            self.space();
            items.push(self.value()?);
            self.space();
            match self.peek() {
                Some(b',') => self.advance(),
                Some(b']') => {
                    self.advance();
                    return Ok(Value::Array(items));
                }
                Some(_) => return Err(self.error(JsonProblem::Syntax)),
                None => return Err(self.error(JsonProblem::End)),
            }
        }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, JsonError> {
        for byte in word.bytes() {
            self.expect(byte)?;
        }
        Ok(value)
    }

    fn number(&mut self) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.advance();
        }
        let first = self.peek();
        let digits = self.digits()?;
        if first == Some(b'0') && digits > 1 {
            return Err(self.error(JsonProblem::Number));
        }
        let mut integer = true;
        if self.peek() == Some(b'.') {
            self.advance();
            self.digits()?;
            integer = false;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.advance();
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.advance();
            }
            self.digits()?;
            integer = false;
        }
        let text = self.from(start);
        let safe = if integer {
            text.trim_start_matches('-')
                .parse::<u64>()
                .is_ok_and(|value| value <= MAX_SAFE)
        } else {
            text.parse::<f64>()
                .is_ok_and(|value| value.abs() <= 9_007_199_254_740_991.0)
        };
        if safe {
            Ok(Value::Number)
        } else {
            Err(self.error(JsonProblem::Number))
        }
    }

    fn digits(&mut self) -> Result<usize, JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.advance();
        }
        match self.at.saturating_sub(start) {
            0 => Err(self.error(JsonProblem::Number)),
            count => Ok(count),
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.expect(b'"')?;
        let start = self.at;
        self.plain();
        match self.peek() {
            Some(b'"') => {
                let text = self.from(start);
                self.advance();
                return Ok(Cow::Borrowed(text));
            }
            Some(b'\\') => {}
            Some(_) => return Err(self.error(JsonProblem::Control)),
            None => return Err(self.error(JsonProblem::End)),
        }
        let mut text = String::from(self.from(start));
        loop {
            let run = self.at;
            self.plain();
            text.push_str(self.from(run));
            match self.peek() {
                Some(b'"') => {
                    self.advance();
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => {
                    self.advance();
                    text.push(self.escape()?);
                }
                Some(_) => return Err(self.error(JsonProblem::Control)),
                None => return Err(self.error(JsonProblem::End)),
            }
        }
    }

    /// Skips the unescaped characters of a string.
    fn plain(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
        let length = rest.iter().position(is_special).unwrap_or(rest.len());
        self.at = self.at.saturating_add(length);
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let byte = self.peek().ok_or_else(|| self.error(JsonProblem::End))?;
        let character = match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.advance();
                return self.unicode();
            }
            _ => return Err(self.error(JsonProblem::Escape)),
        };
        self.advance();
        Ok(character)
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.hex4()?;
        if let Some(character) = char::from_u32(first) {
            return Ok(character);
        }
        let lone = self.error(JsonProblem::LoneSurrogate);
        if first >= 0xdc00 || self.peek() != Some(b'\\') {
            return Err(lone);
        }
        self.advance();
        if self.peek() != Some(b'u') {
            return Err(lone);
        }
        self.advance();
        let second = self.hex4()?;
        if !(0xdc00..=0xdfff).contains(&second) {
            return Err(lone);
        }
        let high = (first & 0x3ff) << 10;
        let code = (high | (second & 0x3ff)).saturating_add(0x1_0000);
        char::from_u32(code).ok_or(lone)
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self
                .peek()
                .and_then(|byte| char::from(byte).to_digit(16))
                .ok_or_else(|| self.error(JsonProblem::Escape))?;
            code = (code << 4) | digit;
            self.advance();
        }
        Ok(code)
    }
}
