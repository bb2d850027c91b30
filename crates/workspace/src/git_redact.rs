//! Rewrites files of a git directory without their credentials.
//!
//! Claims: git-modules, git-logs
use std::borrow::Cow;

use super::git_config::{Kind, Section, elements};
use super::git_values::{self, Judgment};

/// A file without its credentials.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Redacted {
    /// The remaining text.
    pub text: Vec<u8>,
    /// The names of the removed values, never the values.
    pub keys: Vec<String>,
    /// The files to which the original text refers, whether or not the references are still in
    /// `text`.
    pub paths: Vec<Reference>,
    /// Whether git reads the file to its end.
    pub is_whole: bool,
}

/// A file that a configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// Another configuration.
    Include(String),
    /// A file that contains only credentials.
    Secret(String),
}

/// The reader of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reader {
    /// git, which reads the file as its configuration.
    Git,
    /// git, which reads the file from the work tree, where it is an ordinary file of the project.
    WorkTree,
}

/// The text that is listed instead of a key for hidden comments.
const COMMENTS: &str = "(comments)";
/// The text that is listed instead of a key for everything after an error.
const UNREADABLE: &str = "(what git cannot read)";
/// The text that is listed instead of a key for hidden lines.
const LINES: &str = "(text with a credential)";
/// The text that is listed instead of further hidden keys.
const MORE: &str = "(more)";
/// The maximum number of keys of one file that are listed.
const MOST_KEYS: usize = 64;
/// The maximum number of listed files that one configuration names. The code that searches these
/// files has a lower limit.
const MOST_PATHS: usize = 2000;
/// Variables that name files with credentials.
const SECRET_FILES: [(&str, &str); 5] = [
    ("http", "cookiefile"),
    ("http", "proxysslcert"),
    ("http", "proxysslkey"),
    ("http", "sslcert"),
    ("http", "sslkey"),
];

/// Removes the credentials from a configuration.
pub fn config(text: &[u8], reader: Reader) -> Redacted {
    let mut out = Redacted {
        is_whole: true,
        ..Redacted::default()
    };
    let mut keys = Keys::default();
    let mut section = Section::default();
    let mut header = Judgment::Show;
    for element in elements(text) {
        let raw = text.get(element.span).unwrap_or_default();
        let shown = match element.kind {
            Kind::Space => Some(Cow::Borrowed(raw)),
            Kind::Comment => {
                let shown = comment(raw, reader);
                if shown.is_none() {
                    keys.add(COMMENTS);
                }
                shown
            }
            Kind::Section(read) => {
                section = read;
                header = git_values::header(&section);
                let is_shown = reader == Reader::WorkTree || git_values::is_known(&section);
                Some(Cow::Borrowed(if is_shown && header == Judgment::Show {
                    raw
                } else {
                    b"[hidden]"
                }))
            }
            Kind::Variable(name, value) => {
                if out.paths.len() < MOST_PATHS {
                    out.paths
                        .extend(reference(&section, &name, value.as_deref()));
                }
                let judgment = match reader {
                    _ if header != Judgment::Show => Judgment::Hide,
                    Reader::Git => git_values::judge(&section, &name, value.as_deref()),
                    Reader::WorkTree => git_values::judge_tracked(value.as_deref()),
                };
                if judgment != Judgment::Show && !keys.is_full() {
                    keys.add(&full_name(&section, &header, &name));
                }
                match judgment {
                    Judgment::Show => Some(Cow::Borrowed(raw)),
                    Judgment::Change(value) => {
                        Some(Cow::Owned(format!("{name} = {}\n", quoted(&value)).into()))
                    }
                    Judgment::Hide => None,
                }
            }
            Kind::Unreadable => {
                out.is_whole = false;
                keys.add(UNREADABLE);
                None
            }
        };
        // Another element may follow on the same line.
        out.text
            .extend_from_slice(&shown.unwrap_or(Cow::Borrowed(b"\n")));
    }
    out.keys = keys.0;
    out
}

/// Removes lines with credentials from a text, and users from its URLs.
pub fn text(text: &[u8]) -> Redacted {
    let mut out = Redacted {
        is_whole: true,
        ..Redacted::default()
    };
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let shown = shown_line(line);
        if *shown != *line && out.keys.is_empty() {
            out.keys.push(LINES.to_owned());
        }
        out.text.extend_from_slice(&shown);
    }
    out
}

fn shown_line(line: &[u8]) -> Cow<'_, [u8]> {
    let text = String::from_utf8_lossy(line);
    match git_values::line(&text) {
        None => Cow::Borrowed(b"\n"),
        Some(clean) if clean == text => Cow::Borrowed(line),
        Some(clean) => Cow::Owned(clean.into_owned().into_bytes()),
    }
}

/// Returns the comment, or `None` if it is hidden. In a file that only git reads, a comment may be
/// a disabled variable.
fn comment(raw: &[u8], reader: Reader) -> Option<Cow<'_, [u8]>> {
    let is_empty = raw.iter().all(|byte| !byte.is_ascii_alphanumeric());
    match reader {
        _ if is_empty => Some(Cow::Borrowed(raw)),
        Reader::Git => None,
        Reader::WorkTree => (*shown_line(raw) == *raw).then_some(Cow::Borrowed(raw)),
    }
}

/// Quotes a value or subsection as git does.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Builds `section.subsection.name` for people. `header` is the decision about the section's
/// header.
fn full_name(section: &Section, header: &Judgment, name: &str) -> String {
    let subsection = section.subsection.as_deref().map(String::from_utf8_lossy);
    let Some(subsection) = subsection else {
        return format!("{}.{name}", section.name);
    };
    let subsection = match header {
        Judgment::Show => &*subsection,
        Judgment::Change(clean) => clean.as_str(),
        Judgment::Hide => "(hidden)",
    };
    format!("{}.{subsection}.{name}", section.name)
}

/// Returns the file that a variable names.
fn reference(section: &Section, name: &str, value: Option<&[u8]>) -> Option<Reference> {
    let value = String::from_utf8_lossy(value?);
    let path = value.strip_prefix(":(optional)").unwrap_or(&value);
    if path.is_empty() {
        return None;
    }
    match section.name.as_str() {
        "include" | "includeif" if name == "path" => Some(Reference::Include(path.to_owned())),
        "credential" if name == "helper" => stored_in(&value).map(Reference::Secret),
        _ if SECRET_FILES.contains(&(section.name.as_str(), name)) => {
            Some(Reference::Secret(path.to_owned()))
        }
        _ => None,
    }
}

/// Returns the file after `--file` in `git credential-store --file`.
fn stored_in(helper: &str) -> Option<String> {
    let mut words = helper.split_whitespace();
    let file = words.find_map(|word| match word.strip_prefix("--file")? {
        "" => Some(None),
        rest => rest.strip_prefix('=').map(Some),
    })?;
    let file = file.or_else(|| words.next())?;
    Some(file.trim_matches(['"', '\'', ';']).to_owned())
}

/// Names of the removed values, without duplicates.
#[derive(Debug, Default)]
struct Keys(Vec<String>);

impl Keys {
    fn is_full(&self) -> bool {
        self.0.len() > MOST_KEYS
    }

    fn add(&mut self, key: &str) {
        if self.is_full() || self.0.iter().any(|other| other == key) {
            return;
        }
        let key = if self.0.len() == MOST_KEYS { MORE } else { key };
        self.0.push(key.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, reader: Reader) -> (String, Vec<String>) {
        let redacted = config(text.as_bytes(), reader);
        (String::from_utf8(redacted.text).unwrap(), redacted.keys)
    }

    #[test]
    fn credentials_go_and_the_rest_stays() {
        let text = "# s3cret\n[core]\n\tbare = false\r\n[http \"https://github.com/\"]\n\textraHeader = AUTHORIZATION: basic \\\n  s3cret\n\
            [http] extraheader = s3cret ; x\n[user] name = \"a # b\" # s3cret \\\n[Credential \"x\"]\n helper = \"!f() { echo s3cret; }; f\"\n\
            [remote \"origin\"]\n\turl = https://x:s3cret@github.com/a/b\n\tpushurl = ssh://git@github.com/a\n\
            \turl = \"https://u:s3\\\ncret@github.com/c\"\n\turl = https://\\\ns3cret@github.com/d # x\n\
            [url \"https:/\\/s3cret@github.com/\"]\n insteadOf = https://github.com/\n[github]\n\ttoken = s3cret\n\
            [includeIf \"gitdir:/w/.git\"]\n\tpath = /t/git-credentials-1.config\n[branch \"b\"]\n\tmerge = refs/heads/b";
        let redacted = config(text.as_bytes(), Reader::Git);
        let left = String::from_utf8(redacted.text).unwrap();
        assert!(
            !left.contains("s3cret") && !left.contains("cret@"),
            "{left}"
        );
        for kept in [
            "bare = false\r\n",
            "name = \"a # b\" ",
            "url = \"https://github.com/a/b\"\n",
            "url = \"https://github.com/c\"\n",
            "url = \"https://github.com/d\"\n",
            "pushurl = ssh://git@github.com/a\n",
            "merge = refs/heads/b",
            "[remote \"origin\"]",
        ] {
            assert!(left.contains(kept), "{kept}: {left}");
        }
        assert_eq!(
            redacted.keys,
            [
                "(comments)",
                "http.https://github.com/.extraheader",
                "http.extraheader",
                "credential.x.helper",
                "remote.origin.url",
                "url.https://github.com/.insteadof",
                "github.token",
            ]
        );
        let include = Reference::Include(String::from("/t/git-credentials-1.config"));
        assert_eq!(redacted.paths, [include]);
        // Redacting the result again finds no credential.
        assert_eq!(
            config(left.as_bytes(), Reader::Git).keys,
            Vec::<String>::new()
        );
    }

    #[test]
    fn nothing_hides_behind_a_comment_a_quote_or_an_error() {
        for text in [
            "[core] bare # \\\n[http]\nextraheader = s3cret\n",
            "[core] bare = \"c ; \\\" \" \n[http]extraheader=s3cret\n",
            "\u{feff}[HTTP.x]\nEXTRAHEADER = s3cret",
            "[core] bare = \"open\n[http]\nextraheader = s3cret\n",
            "[core\n[http]\nextraheader = s3cret\n",
            "[core] b$ = 1\n[http]\nextraheader = s3cret\n",
            "s3cret",
        ] {
            let (left, keys) = shown(text, Reader::Git);
            assert!(!left.contains("s3cret"), "{text:?}: {left:?}");
            assert!(!keys.is_empty(), "{text:?}");
        }
        // A configuration without credentials stays unchanged.
        let plain = "#\n[core]\n\trepositoryformatversion = 0\n[gc]\n\tauto = 0\n";
        assert_eq!(shown(plain, Reader::Git), (plain.to_owned(), Vec::new()));
    }

    #[test]
    fn a_file_of_the_work_tree_changes_for_a_credential_alone() {
        let plain = "# where things come from\n[submodule \"a\"]\n\tpath = a\n\turl = ../a ; x\n[other]\n\tx = y\n";
        assert_eq!(
            shown(plain, Reader::WorkTree),
            (plain.to_owned(), Vec::new())
        );
        let (left, keys) = shown(
            "# https://s3cret@h/\n[submodule \"a\"]\n\tpath = a\n\turl = https://s3cret@h/a\n",
            Reader::WorkTree,
        );
        assert_eq!(
            left,
            "\n\n[submodule \"a\"]\n\tpath = a\n\turl = \"https://h/a\"\n"
        );
        assert_eq!(keys, ["(comments)", "submodule.a.url"]);
    }

    #[test]
    fn texts_lose_users_of_urls_and_lines_with_tokens() {
        let plain = b"0 1 n <e@h> 1 +0 commit: fix: a b:c@d, authorization \xff\n";
        assert_eq!(text(plain).text, plain);
        assert!(text(plain).keys.is_empty());
        let redacted = text(b"a\npull https://x:s3cret@h/a main\nghp_0123456789abcdef0\nb");
        assert_eq!(redacted.text, b"a\npull https://h/a main\n\nb");
        assert_eq!(redacted.keys, ["(text with a credential)"]);
    }

    #[test]
    fn files_of_credentials_are_named() {
        for (value, file) in [
            ("store --file=/w/x", Some("/w/x")),
            ("store --file /w/x", Some("/w/x")),
            ("!git credential-store --file '/w/x'; f", Some("/w/x")),
            ("store", None),
            ("store --filer x", None),
        ] {
            let text = format!("[credential \"https://h\"]\nhelper = {}\n", quoted(value));
            let paths = config(text.as_bytes(), Reader::Git).paths;
            let wanted = file.map(|file| Reference::Secret(file.to_owned()));
            assert_eq!(paths, Vec::from_iter(wanted), "{value}");
        }
        let many: Vec<String> = (0..100).map(|number| format!("a{number} = b")).collect();
        let keys = config(format!("[x]\n{}", many.join("\n")).as_bytes(), Reader::Git).keys;
        assert_eq!((keys.len(), keys.last().unwrap().as_str()), (65, "(more)"));
    }

    #[test]
    fn time_and_names_grow_with_the_length_alone() {
        let subsection = "https://h/".repeat(400);
        let long = format!("[x \"{subsection}\"]\n{}", "a\n".repeat(50_000));
        let redacted = config(long.as_bytes(), Reader::Git);
        assert_eq!(redacted.keys.len(), 1);
        for line in ["://", "sk-", "[a]", "[include]path=x\n", "https://a@"] {
            let long = line.repeat((1 << 16) / line.len());
            config(long.as_bytes(), Reader::WorkTree);
            config(format!("[core]a={long}").as_bytes(), Reader::Git);
            text(long.as_bytes());
        }
        assert!(text("https://x@h ".repeat(1000).as_bytes()).text.len() < 2);
    }
}
