//! What a check has to say: findings, each with its rule, its place, what was expected and found.
use std::collections::BTreeMap;
use std::fmt;

/// Findings kept for one rule; more of the same say nothing new.
const KEPT_PER_RULE: usize = 10;
/// Errors of one rule after which a check need not go on: the verdict is known, and so is what is wrong.
const ENOUGH: usize = 1000;
/// Characters kept of an expected or found text.
const KEPT_CHARACTERS: usize = 160;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The evidence is invalid.
    Error,
    /// The evidence stands; the reader should know.
    Warning,
}

impl Severity {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One rule of the check. A small rank is more telling: a cause ranks before its consequences.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable identifier.
    pub id: &'static str,
    /// Order among findings of one severity.
    pub rank: u16,
    /// Its weight.
    pub severity: Severity,
    /// What is wrong, in words.
    pub says: &'static str,
    /// What the reader can do; may be empty.
    pub advice: &'static str,
}

impl Rule {
    /// A rule that makes evidence invalid.
    pub const fn error(
        id: &'static str,
        rank: u16,
        says: &'static str,
        advice: &'static str,
    ) -> Self {
        Self {
            id,
            rank,
            severity: Severity::Error,
            says,
            advice,
        }
    }

    /// A rule that only warns.
    pub const fn warning(
        id: &'static str,
        rank: u16,
        says: &'static str,
        advice: &'static str,
    ) -> Self {
        Self {
            id,
            rank,
            severity: Severity::Warning,
            says,
            advice,
        }
    }
}

/// Defines the rules of one check as statics, and `ALL`, the list of them: `docs/rules.md` explains each.
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

/// Where in the evidence something stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Name of the file, when there are several.
    pub file: Option<String>,
    /// Line in the file, from 1.
    pub line: Option<u64>,
    /// Sequence number of the receipt in its chain.
    pub seq: Option<u64>,
}

impl Place {
    /// A whole file.
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

/// One thing that is wrong or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// Where.
    pub place: Place,
    /// What should be there.
    pub expected: String,
    /// What is there. Agent-controlled; print it with [`visible`].
    pub found: String,
}

/// Collects findings with a bound on their number.
#[derive(Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    counts: BTreeMap<&'static str, usize>,
    suppressed: usize,
    errors: usize,
    is_enough: bool,
}

impl Findings {
    /// Adds one.
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

    /// Whether anything makes the evidence invalid.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether one rule has made so many errors that more of them say nothing: a check of a file without end stops.
    pub fn is_enough(&self) -> bool {
        self.is_enough
    }

    /// The findings, most telling first, and how many more of the same there were.
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

/// Bounds a text.
fn shortened(text: String) -> String {
    if text.chars().nth(KEPT_CHARACTERS).is_none() {
        return text;
    }
    let mut short: String = text.chars().take(KEPT_CHARACTERS).collect();
    short.push('…');
    short
}

/// The text with everything escaped that could steer a terminal or hide: control characters,
/// direction marks, zero-width characters.
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
