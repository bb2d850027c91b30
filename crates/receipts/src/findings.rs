//! Findings of a check. Each finding has its rule, its place, the expected value, and the found
//! value.
use std::collections::BTreeMap;
use std::fmt;

const KEPT_PER_RULE: usize = 10;
/// Number of errors of one rule after which a check stops, because more errors would not change the
/// verdict or its cause.
const ENOUGH: usize = 1000;
/// Maximum number of characters of an expected or found text that are kept.
const KEPT_CHARACTERS: usize = 160;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The evidence is invalid.
    Error,
    /// The evidence may be valid, but the reader must be informed.
    Warning,
}

impl Severity {
    /// Returns the word that is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One rule of a check. A cause has a smaller rank than its consequences.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable identifier.
    pub id: &'static str,
    /// Order among findings of one severity.
    pub rank: u16,
    /// Severity of each finding of this rule.
    pub severity: Severity,
    /// The problem, as the start of a sentence in lower case.
    pub problem: &'static str,
    /// A hint to the cause or to the next step, or an empty text.
    pub advice: &'static str,
}

impl Rule {
    /// Defines a rule that makes evidence invalid.
    pub const fn error(
        id: &'static str,
        rank: u16,
        problem: &'static str,
        advice: &'static str,
    ) -> Self {
        Self {
            id,
            rank,
            severity: Severity::Error,
            problem,
            advice,
        }
    }

    /// Defines a rule that only warns.
    pub const fn warning(
        id: &'static str,
        rank: u16,
        problem: &'static str,
        advice: &'static str,
    ) -> Self {
        Self {
            id,
            rank,
            severity: Severity::Warning,
            problem,
            advice,
        }
    }
}

/// Defines the rules of one check as statics, and their list `ALL`. `docs/rules.md` explains each rule.
#[macro_export]
macro_rules! rules {
    ($($visibility:vis static $name:ident: Rule = Rule::$severity:ident($id:literal, $($part:expr),+ $(,)?);)+) => {
        $(
            #[doc = concat!("`", $id, "`, in docs/rules.md.")]
            $visibility static $name: $crate::findings::Rule =
                $crate::findings::Rule::$severity($id, $($part),+);
        )+

        /// Every rule of this check.
        pub static ALL: &[&$crate::findings::Rule] = &[$(&$name),+];
    };
}

/// A place in the evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Name of the file, if there are several.
    pub file: Option<String>,
    /// Line in the file, from 1.
    pub line: Option<u64>,
    /// Sequence number of the receipt in its chain.
    pub seq: Option<u64>,
}

impl Place {
    /// Returns the place of a whole file.
    pub fn in_file(name: impl Into<String>) -> Self {
        Self {
            file: Some(name.into()),
            ..Self::default()
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if let Some(file) = &self.file {
            write!(formatter, "{}", visible(file))?;
            separator = ", ";
        }
        if let Some(line) = self.line {
            write!(formatter, "{separator}line {line}")?;
            separator = ", ";
        }
        if let Some(seq) = self.seq {
            write!(formatter, "{separator}receipt {seq}")?;
        }
        Ok(())
    }
}

/// One violation of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The violated rule.
    pub rule: &'static Rule,
    /// Place of the violation.
    pub place: Place,
    /// The expected value.
    pub expected: String,
    /// The value that was found. The command may control the value, so print it with [`visible`].
    pub found: String,
}

/// Collects a limited number of findings.
#[derive(Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    counts: BTreeMap<&'static str, usize>,
    suppressed: usize,
    errors: usize,
    is_enough: bool,
}

impl Findings {
    /// Counts a finding. At most ten findings of each rule are kept with their texts.
    pub fn add(
        &mut self,
        rule: &'static Rule,
        place: Place,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        if rule.severity == Severity::Error {
            self.errors = self.errors.saturating_add(1);
        }
        let count = self.counts.entry(rule.id).or_default();
        *count = count.saturating_add(1);
        self.is_enough |= *count >= ENOUGH && rule.severity == Severity::Error;
        if *count > KEPT_PER_RULE {
            self.suppressed = self.suppressed.saturating_add(1);
            return;
        }
        self.kept.push(Finding {
            rule,
            place,
            expected: shortened(expected.into()),
            found: shortened(found.into()),
        });
    }

    /// Whether a finding makes the evidence invalid.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether one rule has produced so many errors that the check can stop. The check therefore also ends for a very
    /// long file that contains only errors.
    pub fn is_enough(&self) -> bool {
        self.is_enough
    }

    /// Returns the findings, causes before their consequences, and the number of findings that were not kept.
    pub fn into_ranked(mut self) -> (Vec<Finding>, usize) {
        self.kept.sort_by(|one, other| {
            (one.rule.severity, one.rule.rank, &one.place).cmp(&(
                other.rule.severity,
                other.rule.rank,
                &other.place,
            ))
        });
        (self.kept, self.suppressed)
    }
}

/// Cuts a text after [`KEPT_CHARACTERS`] characters and appends `…`, if the text is longer.
fn shortened(text: String) -> String {
    if text.chars().nth(KEPT_CHARACTERS).is_none() {
        return text;
    }
    let mut short: String = text.chars().take(KEPT_CHARACTERS).collect();
    short.push('…');
    short
}

/// Escapes the characters of a text that could control a terminal or hide text: control characters, direction marks,
/// and zero-width characters.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control()
            || matches!(character,
                '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
        {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    static CAUSE: Rule = Rule::error("t.cause", 1, "cause", "");
    static EFFECT: Rule = Rule::error("t.effect", 2, "effect", "");
    static NOTE: Rule = Rule::warning("t.note", 0, "note", "");

    #[test]
    fn findings_are_ranked_and_bounded() {
        let mut findings = Findings::default();
        findings.add(&NOTE, Place::default(), "", "");
        assert!(!findings.has_errors());
        for line in (0..30).rev() {
            let place = Place {
                line: Some(line),
                ..Place::default()
            };
            findings.add(&EFFECT, place, "", "x".repeat(1000));
        }
        findings.add(&CAUSE, Place::default(), "", "");
        let (kept, suppressed) = findings.into_ranked();
        assert_eq!(suppressed, 20);
        assert_eq!(kept.len(), 12);
        assert_eq!(kept[0].rule, &CAUSE);
        assert_eq!(kept[11].rule, &NOTE);
        assert_eq!(kept[1].found.chars().count(), KEPT_CHARACTERS + 1);
    }

    #[test]
    fn many_errors_of_one_rule_are_enough_and_many_warnings_are_not() {
        let mut findings = Findings::default();
        for _ in 0..ENOUGH {
            assert!(!findings.is_enough());
            findings.add(&NOTE, Place::default(), "", "");
            findings.add(&EFFECT, Place::default(), "", "");
        }
        assert!(findings.is_enough());
        let mut findings = Findings::default();
        for _ in 0..ENOUGH * 2 {
            findings.add(&NOTE, Place::default(), "", "");
        }
        assert!(!findings.is_enough());
    }

    #[test]
    fn steering_characters_are_made_visible() {
        assert_eq!(
            visible("a\u{1b}[31m\u{202e}é\n"),
            "a\\u{1b}[31m\\u{202e}é\\u{a}"
        );
    }
}
