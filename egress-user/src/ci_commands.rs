//! Defuses commands to the CI system in the command's output, so that a line of output cannot set a variable of the
//! job.
//!
//! GitHub's runner executes `::name::` at the start of a line, after optional white space, and `##[name]` anywhere in a
//! line. Azure executes `##vso[name]`, and `TeamCity` `##teamcity[name]`. When these systems search for a command, they
//! skip control characters and some other characters, so this module skips everything except printable ASCII. The
//! module inserts a backslash into each command, so it need not buffer the output.
//!
//! Claims: ci-commands, read-output, read-own-lines
use std::ffi::{OsStr, OsString};

use serde_json::Value;

use crate::variable::variable;

/// The commands that the caller's CI system executes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Obeyed {
    /// Whether the CI system executes commands in its log.
    pub commands: bool,
    /// Whether the CI system supports `::stop-commands::`.
    pub stop_commands: bool,
}

impl Obeyed {
    /// Detects the CI system from the caller's environment.
    pub fn by(environment: &[(OsString, OsString)]) -> Self {
        let value = |name| variable(environment, name);
        let is_true = |name| value(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let is_set = |name| value(name).is_some_and(|value| value != OsStr::new(""));
        let stop_commands = is_true("GITHUB_ACTIONS");
        Self {
            commands: stop_commands || is_true("TF_BUILD") || is_set("TEAMCITY_VERSION"),
            stop_commands,
        }
    }
}

/// Defuses a text that egress prints. The text may contain names that the command chose.
pub fn harmless(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    Defuser::default().pass(text.as_bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Formats a JSON value on one line. Every `#` is escaped, because a command inside a line of JSON can begin only with
/// `#`.
pub fn harmless_json(value: &Value) -> String {
    value.to_string().replace('#', "\\u0023")
}

/// The part of `::` that a line has begun with so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Begun {
    /// The line has no printable character so far.
    #[default]
    Nothing,
    /// One colon.
    Colon,
    /// Any other text.
    Text,
}

/// Words between `##` and `[`.
const WORDS: [&[u8]; 3] = [b"", b"vso", b"teamcity"];
/// Length of the longest word.
const LONGEST: usize = 8;

/// The state of one stream of text.
#[derive(Debug, Default)]
pub struct Defuser {
    begun: Begun,
    hashes: u8,
    word: Vec<u8>,
    defused: u64,
}

impl Defuser {
    /// Appends the defused `text` to `out`. The result does not depend on how the stream is cut into texts.
    pub fn pass(&mut self, text: &[u8], out: &mut Vec<u8>) {
        for byte in text {
            if self.completes(*byte) {
                self.defused += 1;
                out.push(b'\\');
            }
            out.push(*byte);
        }
    }

    /// Returns the number of commands that were defused.
    pub fn defused(&self) -> u64 {
        self.defused
    }

    /// Whether `byte` completes the start of a command.
    fn completes(&mut self, byte: u8) -> bool {
        match byte {
            b'\n' | b'\r' => {
                self.begun = Begun::Nothing;
                self.forget();
                false
            }
            // A command does not contain a space, but a line may start with spaces.
            b' ' => {
                self.forget();
                if self.begun == Begun::Colon {
                    self.begun = Begun::Text;
                }
                false
            }
            b'!'..=b'~' => {
                let colons = self.begun == Begun::Colon && byte == b':';
                self.begun = match (self.begun, byte) {
                    (Begun::Nothing, b':') => Begun::Colon,
                    _ => Begun::Text,
                };
                self.bracket(byte) || colons
            }
            _ => false,
        }
    }

    fn bracket(&mut self, byte: u8) -> bool {
        match byte {
            b'#' if self.word.is_empty() => {
                self.hashes = self.hashes.saturating_add(1).min(2);
                false
            }
            b'#' => {
                self.forget();
                self.hashes = 1;
                false
            }
            b'[' => {
                let whole = self.hashes == 2 && WORDS.contains(&self.word.as_slice());
                self.forget();
                whole
            }
            _ if self.hashes == 2 && self.word.len() < LONGEST => {
                self.word.push(byte.to_ascii_lowercase());
                false
            }
            _ => {
                self.forget();
                false
            }
        }
    }

    fn forget(&mut self) {
        self.hashes = 0;
        self.word.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &[u8]) -> (Vec<u8>, u64) {
        let mut defuser = Defuser::default();
        let mut out = Vec::new();
        defuser.pass(text, &mut out);
        (out, defuser.defused())
    }

    /// Claims: read-output, ci-commands
    #[test]
    fn every_spelling_of_a_command_is_defused_wherever_it_is_cut() {
        let commands: [(&[u8], &[u8]); 14] = [
            (b"::set-env name=a::b\n", b":\\:set-env name=a::b\n"),
            (b" \t\x0b ::add-path::/x\n", b" \t\x0b :\\:add-path::/x\n"),
            (b"text\r::error::x", b"text\r:\\:error::x"),
            (b"text\n\xc2\xa0::x", b"text\n\xc2\xa0:\\:x"),
            (b"\xe2\x80\xa8::x", b"\xe2\x80\xa8:\\:x"),
            (b"\0::x", b"\0:\\:x"),
            (b":\0:x", b":\0\\:x"),
            (b":\xc2\xad:x", b":\xc2\xad\\:x"),
            (b"\xff\xfe:\0:\0x\0", b"\xff\xfe:\0\\:\0x\0"),
            (b"a ##[set-output name=a]b", b"a ##\\[set-output name=a]b"),
            (b"###[x]", b"###\\[x]"),
            (b"#\0#[x]", b"#\0#\\[x]"),
            (b"x ##VSO[task.setvariable]", b"x ##VSO\\[task.setvariable]"),
            (b"##teamcity[x]", b"##teamcity\\[x]"),
        ];
        for (text, expected) in commands {
            assert_eq!(whole(text), (expected.to_vec(), 1), "{text:?}");
            for cut in 0..text.len() {
                let mut defuser = Defuser::default();
                let mut out = Vec::new();
                let (head, tail) = text.split_at(cut);
                defuser.pass(head, &mut out);
                defuser.pass(tail, &mut out);
                assert_eq!(out, expected, "{text:?} at {cut}");
            }
        }
    }

    #[test]
    fn other_text_passes_byte_for_byte() {
        for text in [
            b"std::fs::read\n".as_slice(),
            b"a: :: b\n",
            b": ::not\n",
            b"## [x]\n#[derive]\n##x[\n##vsox[y]\n##\n[x]",
            b"\xff\x00\xfe binary \x1b[31m::\n",
            b"## Heading\n:colon\n:\n:\n",
        ] {
            assert_eq!(whole(text), (text.to_vec(), 0), "{text:?}");
        }
    }

    #[test]
    fn no_output_holds_a_command_whatever_the_input() {
        // This test searches all texts of six bytes from this alphabet, as a runner does.
        let alphabet = b":#[ \n\0vx";
        for number in 0..alphabet.len().pow(6) {
            let mut rest = number;
            let text: Vec<u8> = std::iter::repeat_with(|| {
                let byte = alphabet.get(rest % alphabet.len()).copied().unwrap_or(b'x');
                rest /= alphabet.len();
                byte
            })
            .take(6)
            .collect();
            let (out, _) = whole(&text);
            let seen: Vec<u8> = out.into_iter().filter(|byte| *byte != 0).collect();
            for line in seen.split(|byte| *byte == b'\n') {
                assert!(!line.trim_ascii_start().starts_with(b"::"), "{text:?}");
                assert!(!line.windows(3).any(|three| three == b"##["), "{text:?}");
            }
        }
    }

    /// Claims: read-own-lines
    #[test]
    fn defused_texts_contain_no_command_and_lose_nothing() {
        for text in [
            "###[x]",
            "##vso[x]",
            "a\n::x",
            "#\u{200b}#[x]",
            "####vso[x]",
        ] {
            let shown = harmless(text);
            assert_eq!(whole(shown.as_bytes()).1, 0, "{shown}");
            assert_eq!(shown.replace('\\', ""), text);
            let value = Value::from(text);
            let shown = harmless_json(&value);
            assert_eq!(whole(shown.as_bytes()).1, 0, "{shown}");
            assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
        }
    }

    #[test]
    fn ci_systems_are_known_by_their_variables() {
        let by = |name: &str, value: &str| Obeyed::by(&[(name.into(), value.into())]);
        assert_eq!(by("CI", "true"), Obeyed::default());
        assert_eq!(by("GITHUB_ACTIONS", "false"), Obeyed::default());
        assert!(by("GITHUB_ACTIONS", "true").stop_commands);
        assert!(by("TF_BUILD", "True").commands && !by("TF_BUILD", "True").stop_commands);
        assert!(by("TEAMCITY_VERSION", "2026.1").commands);
    }
}
