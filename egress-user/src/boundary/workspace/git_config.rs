//! Takes credentials out of the text of a git configuration file (git-config(1), "Syntax"). What is
//! not understood is left out, as git itself reads no further there.

/// A configuration without its credentials.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Redacted {
    /// What is left.
    pub text: Vec<u8>,
    /// The names of what was taken out, without what is secret in them.
    pub keys: Vec<String>,
    /// Paths of files that it includes, as they are written.
    pub includes: Vec<String>,
}

/// The section that following variables belong to.
#[derive(Debug, Default)]
struct Section {
    name: String,
    /// `name.subsection`, for people.
    full: String,
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

/// Stands for all that follows an error.
const UNREADABLE: &str = "(what git cannot read)";

/// Takes the credentials out of `text`.
pub fn redact(text: &[u8]) -> Redacted {
    let mut reader = Reader { text, at: 0 };
    if text.starts_with(b"\xef\xbb\xbf") {
        reader.at = 3;
    }
    let mut out = Redacted::default();
    let mut section = Section::default();
    loop {
        let start = reader.at;
        let Some(byte) = reader.next() else {
            return out;
        };
        match byte {
            b' ' | b'\t' | b'\n' => {}
            b'#' | b';' => reader.skip_line(),
            b'[' => {
                let Some(read) = reader.section() else {
                    break;
                };
                section = read;
                let element = text.get(start..reader.at).unwrap_or_default();
                let element = String::from_utf8_lossy(element);
                out.text
                    .extend_from_slice(without_user(&element).as_bytes());
                continue;
            }
            _ if byte.is_ascii_alphabetic() => {
                let Some((key, value)) = reader.variable(byte) else {
                    break;
                };
                let element = text.get(start..reader.at).unwrap_or_default();
                if is_secret(&section, &key, &value) {
                    out.keys
                        .push(without_user(&format!("{}.{key}", section.full)));
                    // A variable may stand on the line of its section.
                    out.text.push(b'\n');
                } else {
                    if section.name.starts_with("include") && key == "path" {
                        out.includes.push(value.clone());
                    }
                    keep(element, &mut out, &section, &key);
                }
                continue;
            }
            _ => break,
        }
        out.text
            .extend_from_slice(text.get(start..reader.at).unwrap_or_default());
    }
    out.keys.push(String::from(UNREADABLE));
    out
}

/// Keeps a variable, but for a user in a URL.
fn keep(element: &[u8], out: &mut Redacted, section: &Section, key: &str) {
    match std::str::from_utf8(element) {
        Ok(text) => {
            let clean = without_user(text);
            if clean != text {
                out.keys
                    .push(without_user(&format!("{}.{key}", section.full)));
            }
            out.text.extend_from_slice(clean.as_bytes());
        }
        Err(_) => out.text.extend_from_slice(element),
    }
}

fn is_secret(section: &Section, key: &str, value: &str) -> bool {
    let lower = without_user(value).to_ascii_lowercase();
    // A helper is the name of a program, or lines of a shell that may say anything.
    (section.name == "credential" && value.starts_with('!'))
        || key == "extraheader"
        || without_user(&section.full) != section.full
        || lower.contains("authorization")
        || lower.contains("x-access-token")
}

/// `text` without the user and password of its URLs. The user of an SSH URL is no secret.
fn without_user(text: &str) -> String {
    const MARK: &str = "://";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let (head, tail) = rest.split_at(at + MARK.len());
        out.push_str(head);
        rest = tail;
        let end = tail
            .find(|c: char| c == '/' || c == '"' || c.is_whitespace())
            .unwrap_or(tail.len());
        let authority = tail.get(..end).unwrap_or_default();
        if let Some(user) = authority.rfind('@') {
            let is_web = ["http://", "https://"]
                .iter()
                .any(|scheme| head.to_ascii_lowercase().ends_with(scheme));
            let has_password = authority.get(..user).is_some_and(|user| user.contains(':'));
            if is_web || has_password {
                rest = tail.get(user + 1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

impl Reader<'_> {
    /// The next byte; a line may end with CR LF.
    fn next(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        if byte == b'\r' && self.text.get(self.at) == Some(&b'\n') {
            self.at += 1;
            return Some(b'\n');
        }
        Some(byte)
    }

    fn skip_line(&mut self) {
        while self.next().is_some_and(|byte| byte != b'\n') {}
    }

    /// The rest of `[name]`, `[name.subsection]` or `[name "subsection"]`.
    fn section(&mut self) -> Option<Section> {
        let mut name = Vec::new();
        loop {
            match self.next()? {
                b']' => return Some(Section::new(&name, None)),
                b' ' | b'\t' => break,
                byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.') => {
                    name.push(byte);
                }
                // The old form, `[name.subsection]`, takes no other byte; a newer git may.
                b'\n' => return None,
                byte => name.push(byte),
            }
        }
        loop {
            match self.next()? {
                b' ' | b'\t' => {}
                b'"' => break,
                _ => return None,
            }
        }
        let mut subsection = Vec::new();
        loop {
            match self.next()? {
                b'"' => break,
                b'\n' => return None,
                b'\\' => match self.next()? {
                    b'\n' => return None,
                    byte => subsection.push(byte),
                },
                byte => subsection.push(byte),
            }
        }
        (self.next()? == b']').then(|| Section::new(&name, Some(&subsection)))
    }

    /// A variable whose name begins with `first`, to the end of its line: name and value.
    fn variable(&mut self, first: u8) -> Option<(String, String)> {
        let mut key = vec![first.to_ascii_lowercase()];
        let mut byte = self.next();
        while let Some(part) = byte
            && (part.is_ascii_alphanumeric() || part == b'-')
        {
            key.push(part.to_ascii_lowercase());
            byte = self.next();
        }
        while matches!(byte, Some(b' ' | b'\t')) {
            byte = self.next();
        }
        let key = String::from_utf8_lossy(&key).into_owned();
        match byte {
            None | Some(b'\n') => Some((key, String::new())),
            Some(b'=') => Some((key, self.value()?)),
            Some(_) => None,
        }
    }

    /// A value, over lines that a backslash continues.
    fn value(&mut self) -> Option<String> {
        let mut value = Vec::new();
        let mut quoted = false;
        while let Some(byte) = self.next() {
            match byte {
                b'\n' if quoted => return None,
                b'\n' => break,
                b'#' | b';' if !quoted => {
                    self.skip_line();
                    break;
                }
                b'"' => quoted = !quoted,
                b'\\' => match self.next()? {
                    b'\n' => {}
                    byte => value.push(byte),
                },
                byte => value.push(byte),
            }
        }
        Some(String::from_utf8_lossy(&value).trim().to_owned())
    }
}

impl Section {
    fn new(name: &[u8], subsection: Option<&[u8]>) -> Self {
        let text = String::from_utf8_lossy(name).into_owned();
        let first = text.split('.').next().unwrap_or_default();
        let name = first.to_ascii_lowercase();
        let full = match subsection {
            Some(part) => format!("{text}.{}", String::from_utf8_lossy(part)),
            None => text,
        };
        Self { name, full }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_and_the_rest_stays() {
        let text = b"# c\n[core]\n\tbare = false\r\n[http \"https://github.com/\"]\n\textraHeader = AUTHORIZATION: basic \\\n  s3cret\n\
            [http] extraheader = s3cret ; x\n[user] name = \"a # b\" # c \\\n[Credential \"x\"]\n helper = \"!f() { echo s3cret; }; f\"\n\
            [remote \"origin\"]\n\turl = https://x:s3cret@github.com/a/b\n\tpushurl = ssh://git@github.com/a\n\
            [url \"https://s3cret@github.com/\"]\n insteadOf = https://github.com/\n\
            [includeIf \"gitdir:/w/.git\"]\n\tpath = /t/git-credentials-1.config\n[branch \"b\"]\n\tmerge = refs/heads/b";
        let redacted = redact(text);
        let left = String::from_utf8(redacted.text).unwrap();
        assert!(!left.contains("s3cret"), "{left}");
        for kept in [
            "bare = false\r\n",
            "name = \"a # b\" # c \\\n",
            "url = https://github.com/a/b\n",
            "pushurl = ssh://git@github.com/a\n",
            "merge = refs/heads/b",
            "[remote \"origin\"]",
        ] {
            assert!(left.contains(kept), "{kept}: {left}");
        }
        assert_eq!(
            redacted.keys,
            [
                "http.https://github.com/.extraheader",
                "http.extraheader",
                "Credential.x.helper",
                "remote.origin.url",
                "url.https://github.com/.insteadof",
            ]
        );
        assert_eq!(redacted.includes, ["/t/git-credentials-1.config"]);
    }

    #[test]
    fn nothing_hides_behind_a_comment_a_quote_or_an_error() {
        for text in [
            "[a] b = c # \\\n[http]\nextraheader = s3cret\n",
            "[a] b = \"c ; \\\" \" \n[http]extraheader=s3cret\n",
            "\u{feff}[HTTP.x]\nEXTRAHEADER = s3cret",
            "[a] b = \"open\n[http]\nextraheader = s3cret\n",
            "[a\n[http]\nextraheader = s3cret\n",
            "[a] b$ = 1\n[http]\nextraheader = s3cret\n",
        ] {
            let redacted = redact(text.as_bytes());
            let left = String::from_utf8(redacted.text).unwrap();
            assert!(!left.contains("s3cret"), "{text:?}: {left:?}");
        }
        // A configuration without credentials is as it was.
        let plain = b"[core]\n\trepositoryformatversion = 0\n[alias]\n\tl = log ; x\n";
        assert_eq!(redact(plain).text, plain);
        assert_eq!(redact(plain).keys, Vec::<String>::new());
    }
}
