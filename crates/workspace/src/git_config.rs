//! Splits a git configuration file into elements, in the same way as git reads it
//! (`git_parse_source` in git's config.c).
//!
//! Every byte of the file belongs to exactly one element, so the file can be written again without
//! some of the elements.
//!
//! Claims: git-configuration
use std::iter;
use std::ops::Range;

/// The kind of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Whitespace and line ends between other elements.
    Space,
    /// A comment, up to the end of its line.
    Comment,
    /// A section header.
    Section(Section),
    /// A variable of the last section: its name in lower case, and the value that git reads. A
    /// variable without `=` has no value.
    Variable(String, Option<Vec<u8>>),
    /// The rest of the file after an error. git does not read it.
    Unreadable,
}

/// A section header as git reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// The name, in lower case.
    pub name: String,
    /// The part between quotes, or after the first dot.
    pub subsection: Option<Vec<u8>>,
}

/// An element and its position in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The kind of the element.
    pub kind: Kind,
    /// The bytes of the element.
    pub span: Range<usize>,
}

/// Splits `text`. The spans of the elements are consecutive and cover the whole text.
pub fn elements(text: &[u8]) -> impl Iterator<Item = Element> {
    const BOM: &[u8] = b"\xef\xbb\xbf";
    let mut reader = Reader { text, at: 0 };
    if text.starts_with(BOM) {
        reader.at = BOM.len();
    }
    let mut start = 0;
    iter::from_fn(move || {
        if start == text.len() {
            return None;
        }
        let kind = reader.element().unwrap_or_else(|| {
            reader.at = text.len();
            Kind::Unreadable
        });
        let span = start..reader.at;
        start = reader.at;
        Some(Element { kind, span })
    })
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl Reader<'_> {
    /// Reads the next byte. CR LF and the end of the file count as a line end.
    fn next(&mut self) -> u8 {
        let Some(byte) = self.text.get(self.at) else {
            return b'\n';
        };
        self.at += 1;
        if *byte == b'\r' && self.text.get(self.at) == Some(&b'\n') {
            self.at += 1;
            return b'\n';
        }
        *byte
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    /// Reads the next element. Returns `None` where git stops with an error.
    fn element(&mut self) -> Option<Kind> {
        match self.next() {
            byte if is_space(byte) => {
                while self.text.get(self.at).is_some_and(|byte| is_space(*byte)) {
                    self.at += 1;
                }
                Some(Kind::Space)
            }
            b'#' | b';' => {
                self.comment();
                Some(Kind::Comment)
            }
            b'[' => self.section().map(Kind::Section),
            byte if byte.is_ascii_alphabetic() => self.variable(byte),
            _ => None,
        }
    }

    /// Skips to the line end. The line end is not part of the comment.
    fn comment(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'\n');
        self.at += length.unwrap_or(rest.len());
    }

    /// Reads the rest of `[name]`, `[name.subsection]` or `[name "subsection"]`.
    fn section(&mut self) -> Option<Section> {
        let mut full = Vec::new();
        loop {
            if self.is_at_end() {
                return None;
            }
            match self.next() {
                b']' if !full.is_empty() => return Some(Section::new(&full)),
                b']' | b'\n' => return None,
                byte if is_space(byte) => break,
                byte if is_key(byte) || byte == b'.' => full.push(byte.to_ascii_lowercase()),
                _ => return None,
            }
        }
        loop {
            match self.next() {
                b'"' => break,
                b'\n' => return None,
                byte if is_space(byte) => {}
                _ => return None,
            }
        }
        full.push(b'.');
        loop {
            match self.next() {
                b'"' => break,
                b'\n' => return None,
                b'\\' => match self.next() {
                    b'\n' => return None,
                    byte => full.push(byte),
                },
                byte => full.push(byte),
            }
        }
        (self.next() == b']').then(|| Section::new(&full))
    }

    /// Reads a variable whose name starts with `first`. A comment after the value is not part of
    /// it.
    fn variable(&mut self, first: u8) -> Option<Kind> {
        let mut name = String::from(char::from(first.to_ascii_lowercase()));
        let mut byte = self.next();
        while is_key(byte) {
            name.push(char::from(byte.to_ascii_lowercase()));
            byte = self.next();
        }
        while matches!(byte, b' ' | b'\t') {
            byte = self.next();
        }
        match byte {
            b'\n' => Some(Kind::Variable(name, None)),
            b'=' => Some(Kind::Variable(name, Some(self.value()?))),
            _ => None,
        }
    }

    /// Reads a value, including lines that a backslash continues.
    fn value(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        let mut spaces = Vec::new();
        let mut is_quoted = false;
        loop {
            let before = self.at;
            match self.next() {
                b'\n' if is_quoted => return None,
                b'\n' => return Some(value),
                byte if is_space(byte) && !is_quoted => {
                    // Whitespace counts inside a value, but not around it.
                    if !value.is_empty() {
                        spaces.push(byte);
                    }
                }
                b'#' | b';' if !is_quoted => {
                    self.at = before;
                    return Some(value);
                }
                byte => {
                    value.append(&mut spaces);
                    match byte {
                        b'"' => is_quoted = !is_quoted,
                        b'\\' => match self.next() {
                            // The value continues on the next line.
                            b'\n' => {}
                            byte => value.push(escaped(byte)?),
                        },
                        byte => value.push(byte),
                    }
                }
            }
        }
    }
}

/// Returns the character that a backslash and `byte` represent.
fn escaped(byte: u8) -> Option<u8> {
    match byte {
        b't' => Some(b'\t'),
        b'b' => Some(8),
        b'n' => Some(b'\n'),
        b'\\' | b'"' => Some(byte),
        _ => None,
    }
}

impl Section {
    fn new(full: &[u8]) -> Self {
        let mut parts = full.splitn(2, |byte| *byte == b'.');
        let name = parts.next().unwrap_or_default();
        Self {
            name: String::from_utf8_lossy(name).into_owned(),
            subsection: parts.next().map(<[u8]>::to_vec),
        }
    }
}

/// Whether git's `isspace` counts the byte as whitespace.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::disallowed_methods,
        reason = "the test compares the parser with git"
    )]
    use std::process::Command;

    use super::*;
    use egress_test_support::mutate::Numbers;

    /// Returns names with values in the form of `git config --list -z`, and whether git reads the
    /// file to its end.
    fn by_git(text: &[u8]) -> (Vec<u8>, bool) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let git = Command::new("git")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .args(["config", "--no-includes", "--list", "-z", "--file"])
            .arg(file.path())
            .output()
            .unwrap();
        (git.stdout, git.status.success())
    }

    /// Returns the same pair as `by_git`, computed by this module.
    fn by_us(text: &[u8]) -> (Vec<u8>, bool) {
        let (mut list, mut section, mut is_whole) = (Vec::new(), Vec::new(), true);
        for element in elements(text) {
            match element.kind {
                Kind::Space | Kind::Comment => {}
                Kind::Section(read) => {
                    section = read.name.into_bytes();
                    section.push(b'.');
                    if let Some(subsection) = read.subsection {
                        section.extend(subsection);
                        section.push(b'.');
                    }
                }
                Kind::Variable(name, value) => {
                    list.extend_from_slice(&section);
                    list.extend(name.bytes());
                    if let Some(value) = value {
                        list.push(b'\n');
                        list.extend(value);
                    }
                    list.push(0);
                }
                Kind::Unreadable => is_whole = false,
            }
        }
        (list, is_whole)
    }

    const CORPUS: &[&[u8]] = &[
        b"# c\n[core]\n\tbare = false\r\n[http \"https://h/\"]\n\textraHeader = a \\\n  b \n[http] c = d ; x\n",
        b"[user] name = \"a # b\" # c \\\n[Credential \"x\"]\n helper = \"!f() { echo; }; f\"\n[a.B.c] d = 1\n",
        b"\xef\xbb\xbf[HTTP.x]\nEXTRAHEADER = s",
        b"[a]\nb\n\tc=\n d =  \"  x  \"  y  z \n",
        b"[a] b = \"c ; \\\" \" \n[d]e=\\t\\n\\b\\\\x\n",
        b"[a] b = x\\\n# y\\\n[z]c=1\n",
        b"[a] b = \"https://u:T\\\nOK@h\"\n",
        b"[a \"b\\\"c\\\\d\\e\"] f = g\n[a \t \"x\"]y=z",
        b"[a] b = c\r\n\r[d]\re = f\rg\r\n",
        b"[a] b = \"open\n[c]\nd = e\n",
        b"[a\n[c]\nd = e\n",
        b"[a] b$ = 1\n[c]\nd = e\n",
        b"[a] b = \\x\n[c]\nd = e\n",
        b"[a] b # c\n[c]\nd = e\n",
        b"[a \"b\nc\"]\nd = e\n",
        b"[a] b = c\\",
        b"[a] b = c\\\r\n d\n",
        b"[a] b = \xff\xfe\n[a \"\xff\"] c\n",
        b"[a \"b\" ]\nd = e\n",
        b"[a ]\nd = e\n",
        b"[]\nd = e\n",
        b"[.x]d=e\n[ \"y\"]f=g\n[z.]h=i\n",
        b"[a]b=c;d\n[a]b=c\\;d\n",
        b"\n\n  \t[a]\n\n#\n;\n",
    ];

    #[test]
    fn git_reads_the_same() {
        // Newer versions of git keep a tab or CR inside a value. Older versions turn these
        // characters into spaces.
        let lossy = |list: &[u8]| String::from_utf8_lossy(list).replace(['\r', '\t'], " ");
        let check = |text: &[u8]| {
            let (ours, gits) = (by_us(text), by_git(text));
            let text = String::from_utf8_lossy(text);
            assert_eq!(ours.1, gits.1, "{text:?}");
            if ours.1 {
                assert_eq!(lossy(&ours.0), lossy(&gits.0), "{text:?}");
            }
        };
        for text in CORPUS {
            check(text);
        }
        let words: [&[u8]; 15] = [
            b"\\\n", b"\"", b"\\", b"#", b";", b"[", b"]", b" = ", b"\r\n", b"\n", b"\r", b"\t",
            b" ", b".", b"[a \"",
        ];
        let mut numbers = Numbers::new(7);
        for _ in 0..300 {
            let text = numbers.mutated(CORPUS, &words);
            // git's strings end at a NUL.
            if !text.contains(&0) {
                check(&text);
            }
        }
    }

    #[test]
    fn every_byte_is_in_one_element() {
        let mut numbers = Numbers::new(8);
        for _ in 0..20_000 {
            let text = numbers.mutated(CORPUS, &[b"\r", b"\\\n", b"\0"]);
            let mut end = 0;
            for element in elements(&text) {
                assert_eq!(element.span.start, end);
                assert!(element.span.end > end);
                end = element.span.end;
            }
            assert_eq!(end, text.len());
        }
    }
}
