//! Decides which values of git's configuration the command may see.
//!
//! This is an allow-list. A deny-list would have to contain the variables of every tool that keeps
//! its token in git's configuration (`github.token`, `sendemail.smtpPass`).
//!
//! Claims: git-configuration, git-modules
use std::borrow::Cow;

use egress_policy::redact;

use super::git_config::Section;

/// The decision about a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgment {
    /// The command sees the value unchanged.
    Show,
    /// The command sees this value instead.
    Change(String),
    /// The command does not see the variable.
    Hide,
}

/// git's own sections. In each of them, switches, numbers and [`KEYWORDS`] are shown. The variables
/// listed here are shown with any value that contains no credential.
const SECTIONS: &[(&str, &str)] = &[
    ("add", ""),
    ("advice", ""),
    ("am", ""),
    ("apply", "whitespace"),
    ("author", "email name"),
    ("blame", "ignorerevsfile"),
    (
        "branch",
        "gh-merge-base github-pr-owner-number merge mergeoptions pushremote remote sort vscode-merge-base",
    ),
    ("checkout", "defaultremote"),
    ("clean", ""),
    ("clone", "defaultremotename"),
    ("color", ""),
    ("column", ""),
    ("commit", "template"),
    ("commitgraph", ""),
    ("committer", "email name"),
    (
        "core",
        "abbrev attributesfile checkroundtripencoding commentchar eol excludesfile fsync hookspath notesref whitespace worktree",
    ),
    // The arguments of a helper may contain the secret that it prints.
    ("credential", ""),
    (
        "diff",
        "colormovedws dirstat orderfile tool wordregex wserrorhighlight xfuncname",
    ),
    ("extensions", "objectformat partialclone refstorage"),
    ("feature", ""),
    ("fetch", ""),
    ("filter", ""),
    ("fsck", ""),
    (
        "gc",
        "pruneexpire reflogexpire reflogexpireunreachable worktreepruneexpire",
    ),
    ("gpg", "allowedsignersfile format program"),
    ("grep", ""),
    ("http", "proxy sslbackend sslcainfo sslcapath version"),
    ("i18n", "commitencoding logoutputencoding"),
    ("include", "path"),
    ("includeif", "path"),
    ("index", ""),
    ("init", "defaultbranch templatedir"),
    ("lfs", "access locksverify pushurl url"),
    ("log", "date excludedecoration"),
    ("maintenance", "repo"),
    ("merge", "name tool"),
    ("notes", "displayref rewriteref"),
    ("pack", ""),
    ("protocol", ""),
    ("pull", ""),
    ("push", ""),
    ("rebase", ""),
    (
        "remote",
        "fetch gh-resolved partialclonefilter push pushdefault pushurl tagopt url",
    ),
    ("repack", ""),
    ("rerere", ""),
    ("revert", ""),
    ("safe", "directory"),
    ("sparse", ""),
    ("splitindex", ""),
    ("stash", ""),
    ("status", ""),
    ("submodule", "active branch path url"),
    ("tag", "sort"),
    ("transfer", "hiderefs"),
    ("uploadpack", "hiderefs"),
    ("url", "insteadof pushinsteadof"),
    ("user", "email name signingkey"),
    ("versionsort", "suffix"),
    ("worktree", ""),
];

/// Words that have a meaning in git's configuration.
const KEYWORDS: &[&str] = &[
    "abort",
    "all",
    "allow",
    "always",
    "auto",
    "basic",
    "black",
    "blue",
    "bold",
    "bright",
    "cached",
    "checkout",
    "copies",
    "crlf",
    "current",
    "cyan",
    "default",
    "delete",
    "dense",
    "diff3",
    "dim",
    "dirty",
    "error",
    "false",
    "fix",
    "green",
    "histogram",
    "ignore",
    "inexact",
    "info",
    "input",
    "interactive",
    "iso",
    "lf",
    "local",
    "magenta",
    "matching",
    "merge",
    "merges",
    "minimal",
    "mixed",
    "myers",
    "native",
    "never",
    "no",
    "none",
    "normal",
    "nothing",
    "off",
    "on",
    "on-demand",
    "only",
    "patience",
    "plain",
    "rebase",
    "recursive",
    "red",
    "relative",
    "scissors",
    "short",
    "simple",
    "ssh",
    "strip",
    "track",
    "true",
    "tracking",
    "upstream",
    "user",
    "verbatim",
    "warn",
    "white",
    "whitespace",
    "yellow",
    "yes",
    "zdiff3",
    "zebra",
];

/// Common filter commands. Without these commands, a work tree appears changed.
const FILTERS: &[&str] = &[
    "git-lfs clean -- %f",
    "git-lfs smudge -- %f",
    "git-lfs smudge --skip -- %f",
    "git-lfs filter-process",
    "git-lfs filter-process --skip",
    "\"git-crypt\" clean",
    "\"git-crypt\" smudge",
];

/// The longest number that is shown, including the letter of its unit.
const LONGEST_NUMBER: usize = 12;
/// The maximum size of a text that is judged, in bytes, and its maximum number of URLs. Larger
/// texts are hidden. The time to judge a text grows with the product of its size and its number of
/// URLs.
const LONGEST_TEXT: usize = 4 << 10;
const MOST_URLS: usize = 32;
/// The text by which a URL is recognized.
const MARK: &str = "://";

/// Judges a variable of git's configuration, in a section whose header is shown.
pub fn judge(section: &Section, name: &str, value: Option<&[u8]>) -> Judgment {
    let Some((_, free)) = SECTIONS.iter().find(|(known, _)| *known == section.name) else {
        return Judgment::Hide;
    };
    let value = String::from_utf8_lossy(value.unwrap_or_default());
    let is_helper = section.name == "credential" && name == "helper";
    if is_helper && !value.contains([' ', '!']) {
        return judged_text(&value);
    }
    if is_keyword(&value) || (section.name == "filter" && FILTERS.contains(&value.as_ref())) {
        return Judgment::Show;
    }
    if !free.split(' ').any(|free| free == name) {
        return Judgment::Hide;
    }
    judged_text(&value)
}

/// Judges a variable of a file that belongs to the work tree (`.gitmodules`). Only certain
/// credentials are removed, because any other difference would look like a change by the command.
pub fn judge_tracked(value: Option<&[u8]>) -> Judgment {
    judged_text(&String::from_utf8_lossy(value.unwrap_or_default()))
}

/// Judges a section header by its subsection. The subsection may be a URL.
pub fn header(section: &Section) -> Judgment {
    let subsection = section.subsection.as_deref().unwrap_or_default();
    judged_text(&String::from_utf8_lossy(subsection))
}

/// Whether the section is one of git's own.
pub fn is_known(section: &Section) -> bool {
    SECTIONS.iter().any(|(known, _)| *known == section.name)
}

/// Whether the value is a switch, a number, or consists of words that have a meaning for git.
fn is_keyword(value: &str) -> bool {
    let digits = value
        .strip_suffix(['k', 'K', 'm', 'M', 'g', 'G'])
        .unwrap_or(value);
    let digits = digits.strip_prefix('-').unwrap_or(digits);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && value.len() <= LONGEST_NUMBER)
        || value.split(' ').all(|word| {
            KEYWORDS
                .iter()
                .any(|keyword| keyword.eq_ignore_ascii_case(word))
        })
}

/// Whether judging a text would take too long.
fn is_too_long(text: &str) -> bool {
    text.len() > LONGEST_TEXT || text.matches(MARK).nth(MOST_URLS).is_some()
}

fn judged_text(value: &str) -> Judgment {
    if is_too_long(value) {
        return Judgment::Hide;
    }
    let mut clean = without_user(value);
    if let Some((scheme, rest)) = clean.split_once("://")
        && !scheme.contains(char::is_whitespace)
        && let Some(end) = rest.find(['?', '#'])
    {
        clean = Cow::Owned(format!(
            "{scheme}://{}",
            rest.get(..end).unwrap_or_default()
        ));
    }
    if holds_secret(&clean) || value.chars().any(char::is_control) {
        Judgment::Hide
    } else if clean == value {
        Judgment::Show
    } else {
        Judgment::Change(clean.into_owned())
    }
}

/// Whether a text contains a token, recognized by its form.
fn holds_token(text: &str) -> bool {
    text.contains("x-access-token") || redact::is_credential(text)
}

/// Returns the visible part of a line of text, or `None` if the line is hidden. The URLs in the
/// line may contain users.
pub fn line(text: &str) -> Option<Cow<'_, str>> {
    if is_too_long(text) {
        return None;
    }
    let clean = without_user(text);
    (!holds_token(&clean)).then_some(clean)
}

/// Whether a value still contains a credential after the users were removed from its URLs.
fn holds_secret(value: &str) -> bool {
    // Matches `user:password@host:path`.
    let has_password = |word: &str| {
        let user = word.split_once('@').map_or("", |(user, _)| user);
        !word.contains("://") && user.contains(':') && !user.contains('/')
    };
    value.to_ascii_lowercase().contains("authorization")
        || holds_token(value)
        || value.split_whitespace().any(has_password)
}

/// Removes user and password from the URLs in `text`. The user of an SSH URL is not a secret and
/// stays.
fn without_user(text: &str) -> Cow<'_, str> {
    const SSH: [&str; 4] = ["ssh", "git+ssh", "ssh+git", "svn+ssh"];
    let ends = |c: char| matches!(c, '"' | '\'' | '<' | '>') || c.is_whitespace();
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let (head, tail) = rest.split_at(at + MARK.len());
        out.push_str(head);
        rest = tail;
        let url = tail.split(ends).next().unwrap_or_default();
        let authority = url.split('/').next().unwrap_or_default();
        // A password may contain an unescaped slash. The part before the slash then looks like a
        // port.
        let is_port = authority.rsplit_once(':').is_none_or(|(_, port)| {
            port.contains(']') || port.bytes().all(|byte| byte.is_ascii_digit())
        });
        let user = match authority.rfind('@') {
            None if !is_port => url.rfind('@'),
            user => user,
        };
        let Some(user) = user else {
            continue;
        };
        let head = head.strip_suffix(MARK).unwrap_or_default();
        let scheme = head
            .rsplit(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.'))
            .next()
            .unwrap_or_default();
        let is_ssh = SSH.iter().any(|ssh| scheme.eq_ignore_ascii_case(ssh));
        if !is_ssh || url.get(..user).is_some_and(|user| user.contains(':')) {
            rest = tail.get(user + 1..).unwrap_or_default();
        }
    }
    if out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(section: &str, subsection: &str, name: &str, value: &str) -> Judgment {
        let subsection = (!subsection.is_empty()).then(|| subsection.as_bytes().to_vec());
        let name_of = section.to_owned();
        let section = Section {
            name: name_of,
            subsection,
        };
        match header(&section) {
            Judgment::Show => judge(&section, name, Some(value.as_bytes())),
            Judgment::Change(_) | Judgment::Hide => Judgment::Hide,
        }
    }

    /// Claims: read-git-files
    #[test]
    fn text_with_too_many_urls_is_hidden() {
        let urls = |count: usize| "https://h/a ".repeat(count);
        assert!(line(&urls(MOST_URLS)).is_some());
        assert!(line(&urls(MOST_URLS + 1)).is_none());
        assert_eq!(
            judge_tracked(Some(urls(MOST_URLS + 1).as_bytes())),
            Judgment::Hide
        );
    }

    /// Claims: git-credentials
    #[test]
    fn what_a_repository_needs_is_shown() {
        for (section, subsection, name, value) in [
            ("core", "", "repositoryformatversion", "0"),
            ("core", "", "bare", "false"),
            ("core", "", "worktree", "../../../sub"),
            ("core", "", "autocrlf", "input"),
            ("core", "", "hookspath", ".husky/_"),
            ("extensions", "", "objectformat", "sha256"),
            ("remote", "origin", "url", "https://github.test/a/b"),
            ("remote", "origin", "url", "git@github.test:a/b.git"),
            ("remote", "origin", "pushurl", "ssh://git@github.test/a"),
            (
                "remote",
                "origin",
                "fetch",
                "+refs/heads/*:refs/remotes/origin/*",
            ),
            ("remote", "origin", "url", "https://h:8443/@scope/p"),
            ("remote", "origin", "url", "https://[::1]:80/x"),
            ("branch", "main", "merge", "refs/heads/main"),
            ("user", "", "name", "Ann O'Neil"),
            ("user", "", "email", "ann@example.test"),
            ("filter", "lfs", "clean", "git-lfs clean -- %f"),
            ("filter", "lfs", "required", "true"),
            ("credential", "https://h", "helper", "gcloud.sh"),
            ("includeif", "gitdir:/w/.git", "path", "/t/x.config"),
            ("url", "git@h:", "insteadof", "https://h/"),
            ("http", "", "postbuffer", "524288000"),
            ("pack", "", "windowmemory", "100m"),
            ("color", "branch", "current", "bold red"),
            ("merge", "", "conflictstyle", "zdiff3"),
        ] {
            assert_eq!(
                judged(section, subsection, name, value),
                Judgment::Show,
                "{section} {name} {value}"
            );
        }
    }

    #[test]
    fn all_else_is_hidden() {
        for (section, subsection, name, value) in [
            (
                "http",
                "https://h/",
                "extraheader",
                "AUTHORIZATION: basic x",
            ),
            ("http", "", "extraheader", "PRIVATE-TOKEN: x"),
            ("http", "", "cookiefile", "/w/cookies"),
            ("core", "", "sshcommand", "sshpass -p x ssh"),
            ("core", "", "askpass", "/w/askpass"),
            ("core", "", "pager", "less"),
            ("credential", "", "helper", "!echo"),
            ("credential", "", "helper", "store --file x"),
            ("credential", "", "password", "x"),
            ("sendemail", "", "smtppass", "12345"),
            ("imap", "", "pass", "true"),
            ("github", "", "token", "x"),
            ("remote", "origin", "token", "x"),
            ("remote", "origin", "pat", "hunter2"),
            ("filter", "x", "clean", "clean --key x"),
            ("alias", "", "l", "log"),
            ("receive", "", "certnonceseed", "x"),
            ("url", "https://x@h/", "insteadof", "https://h/"),
            ("user", "", "name", "ghp_0123456789abcdef"),
            ("user", "", "name", "a\u{1}b"),
            ("remote", "origin", "url", "u:pw@h:a/b"),
            ("remote", "origin", "fetch", "x-access-token"),
            ("user", "", "signingkey", "-----BEGIN\nKEY"),
            ("core", "", "compression", "1234567890123"),
        ] {
            assert_eq!(
                judged(section, subsection, name, value),
                Judgment::Hide,
                "{section} {name} {value}"
            );
        }
    }

    #[test]
    fn a_url_loses_its_user_and_its_query() {
        for (url, shown) in [
            ("https://x:y@h/a", "https://h/a"),
            ("HTTPS://x@h/a", "HTTPS://h/a"),
            ("https://u:a/b@h/c", "https://h/c"),
            ("http::https://x@h/a", "http::https://h/a"),
            ("ssh://u:p@h/a", "ssh://h/a"),
            ("ftp://u@h/a", "ftp://h/a"),
            ("https://h/a?private_token=x", "https://h/a"),
            ("https://h/a#x", "https://h/a"),
            ("https://x@h?y", "https://h"),
        ] {
            assert_eq!(
                judged("remote", "o", "url", url),
                Judgment::Change(shown.to_owned())
            );
        }
        assert_eq!(
            without_user("from https://a@h/b and ssh://git@h/c, https://d:e@h"),
            "from https://h/b and ssh://git@h/c, https://h"
        );
    }
}
