//! Finds texts that match a regular expression in `dlp.patterns` of a Pipelock's policy.
//!
//! Pipelock redacts a matching URL in its receipts. The relay redacts the path of such a URL in the flow log. Pipelock
//! compiles the expressions with Go's package `regexp` and ignores case. `go_syntax` translates them for the crate
//! `regex`, which also matches in linear time.
mod go_syntax;
#[cfg(test)]
mod tests;

use regex::{Error, RegexSet, RegexSetBuilder};
use serde::{Deserialize, Serialize};

#[cfg(feature = "yaml")]
use super::document::{MappingEntry, Node, Value};
#[cfg(feature = "yaml")]
use super::error::PolicyError;

/// Maximum size of all compiled expressions, in bytes.
///
/// The command chooses the texts, and the time to check a text grows with this size.
const MAX_COMPILED: usize = 1 << 20;
/// Maximum length of all expressions, in bytes.
const MAX_TEXT: usize = 64 << 10;
/// The flag that Pipelock puts before every expression that does not start with it.
const IGNORE_CASE: &str = "(?i)";

/// The compiled expressions of a policy. They are serialized as they stand in the policy.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Patterns {
    texts: Vec<String>,
    compiled: Option<RegexSet>,
}

/// Patterns are equal if their expressions are. Compiled expressions cannot be compared.
impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for Patterns {}

impl From<Patterns> for Vec<String> {
    fn from(patterns: Patterns) -> Self {
        patterns.texts
    }
}

impl TryFrom<Vec<String>> for Patterns {
    type Error = &'static str;

    fn try_from(texts: Vec<String>) -> Result<Self, Self::Error> {
        Self::compile(texts).map_err(|(_, reason)| reason)
    }
}

impl Patterns {
    /// Compiles the expressions of a policy.
    ///
    /// # Errors
    /// Returns [`PolicyError`] with the line and the key of an expression that cannot be compiled. A text that egress
    /// does not recognize as a secret would be in the flow log.
    #[cfg(feature = "yaml")]
    pub(super) fn of(entries: &[MappingEntry]) -> Result<Self, PolicyError> {
        let dlp = get(entries, "dlp").and_then(Node::as_map);
        let Some(list) = dlp.and_then(|dlp| get(dlp, "patterns")) else {
            return Ok(Self::default());
        };
        let mut lines = Vec::new();
        let mut texts = Vec::new();
        for (index, pattern) in list.as_list().unwrap_or_default().iter().enumerate() {
            // Pipelock rejects a pattern without an expression.
            let regex = pattern.as_map().and_then(|fields| get(fields, "regex"));
            let Some(regex) = regex.filter(|regex| regex.value != Value::Null) else {
                continue;
            };
            let key = format!("dlp.patterns[{index}].regex");
            let text = regex.as_text().ok_or_else(|| PolicyError::Invalid {
                line: regex.line,
                key: key.clone(),
                reason: String::from("must be text; put it in quotation marks"),
            })?;
            texts.push(text.to_owned());
            lines.push((regex.line, key));
        }
        Self::compile(texts).map_err(|(index, reason)| {
            let whole = || (list.line, String::from("dlp.patterns"));
            let named = index.and_then(|index| lines.get(index).cloned());
            let (line, key) = named.unwrap_or_else(whole);
            let reason = reason.to_owned();
            PolicyError::Invalid { line, key, reason }
        })
    }

    /// Compiles these expressions. The error contains the index of the expression that cannot be compiled, unless it
    /// concerns all of them.
    fn compile(texts: Vec<String>) -> Result<Self, (Option<usize>, &'static str)> {
        if texts.is_empty() {
            return Ok(Self::default());
        }
        if texts.iter().map(String::len).sum::<usize>() > MAX_TEXT {
            return Err((None, "are longer than 64 KiB in total"));
        }
        let translate = |(index, text): (usize, &String)| {
            let prefix = if text.starts_with(IGNORE_CASE) {
                ""
            } else {
                IGNORE_CASE
            };
            let translated = go_syntax::translated(text);
            let translated = translated.map_err(|reason| (Some(index), reason))?;
            Ok(format!("{prefix}{translated}"))
        };
        let translated: Vec<String> = texts
            .iter()
            .enumerate()
            .map(translate)
            .collect::<Result<_, _>>()?;
        match build(&translated) {
            Ok(compiled) => Ok(Self {
                texts,
                compiled: Some(compiled),
            }),
            Err(error) => {
                let fails = |one: &String| build([one]).err();
                let culprit = translated
                    .iter()
                    .enumerate()
                    .find_map(|(index, one)| Some((index, fails(one)?)));
                Err(match culprit {
                    Some((index, Error::CompiledTooBig(_))) => (
                        Some(index),
                        "is too large for egress; use smaller numbers of repetitions",
                    ),
                    Some((index, _)) => (
                        Some(index),
                        "is not a regular expression that egress can use; write it in the syntax of RE2",
                    ),
                    None if matches!(error, Error::CompiledTooBig(_)) => {
                        (None, "are too large together; use fewer repetitions")
                    }
                    None => (None, "cannot be used together"),
                })
            }
        }
    }

    /// Whether there is no expression.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Whether an expression matches a part of the text.
    pub fn is_match(&self, text: &str) -> bool {
        let compiled = self.compiled.as_ref();
        compiled.is_some_and(|compiled| compiled.is_match(text))
    }
}

fn build<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<RegexSet, Error> {
    RegexSetBuilder::new(texts).size_limit(MAX_COMPILED).build()
}

#[cfg(feature = "yaml")]
fn get<'e>(entries: &'e [MappingEntry], key: &str) -> Option<&'e Node> {
    let entry = entries.iter().find(|entry| entry.key == key);
    entry.map(|entry| &entry.value)
}
