//! The configuration files of agents, editors, and CI systems that can make code run later, and the changes to these
//! files that the caller allows.
//!
//! The names count only at the top of the workspace, where agents, editors, and CI systems read them. Upper and lower
//! case are not distinguished, because a file system may not distinguish them either.
//!
//! Claims: configuration-protected
use std::fmt;

/// Files and directories at the top of the workspace whose changes are not applied by default.
pub const NAMES: [&str; 17] = [
    ".buildkite",
    ".circleci",
    ".claude",
    ".codex",
    ".cursor",
    ".devcontainer",
    ".envrc",
    ".github",
    ".gitlab",
    ".gitlab-ci.yml",
    ".husky",
    ".mcp.json",
    ".vscode",
    "AGENTS.md",
    "CLAUDE.md",
    "Jenkinsfile",
    "azure-pipelines.yml",
];

/// Returns the names of a path below the workspace, outermost first.
fn names_of(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let names = path.split(|byte| *byte == b'/');
    names.filter(|name| !name.is_empty())
}

/// Whether the path is one of [`NAMES`] or below one of them.
pub fn holds(path: &[u8]) -> bool {
    let top = names_of(path).next().unwrap_or_default();
    NAMES
        .iter()
        .any(|name| top.eq_ignore_ascii_case(name.as_bytes()))
}

/// A pattern of paths in the protected configuration to which changes are applied. `*` stands for
/// any characters of one name. The pattern also covers everything below the paths that it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternError {
    /// The text is not a relative path with plain names.
    NotPlain,
    /// The pattern does not match a protected name.
    NotProtected,
}

impl fmt::Display for PatternError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPlain => out.write_str(
                "not a path below the workspace; write it without a leading slash, `.`, `..`, or \
                 empty names",
            ),
            Self::NotProtected => write!(
                out,
                "nothing that it matches is protected by default; the protected names are {}",
                NAMES.join(", ")
            ),
        }
    }
}

impl std::error::Error for PatternError {}

impl std::str::FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let text = text.strip_suffix('/').unwrap_or(text);
        if text.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return Err(PatternError::NotPlain);
        }
        let top = text.split('/').next().unwrap_or_default();
        if NAMES
            .iter()
            .any(|name| matches(top.as_bytes(), name.as_bytes()))
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(PatternError::NotProtected)
        }
    }
}

impl Pattern {
    /// Returns the text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern matches the path or a directory above it.
    pub fn covers(&self, path: &[u8]) -> bool {
        let mut names = names_of(path);
        self.0.split('/').all(|part| {
            names
                .next()
                .is_some_and(|name| matches(part.as_bytes(), name))
        })
    }

    /// Whether the pattern may match a path below `directory`.
    pub fn reaches_below(&self, directory: &[u8]) -> bool {
        let mut parts = self.0.split('/');
        names_of(directory).all(|name| {
            parts
                .next()
                .is_some_and(|part| matches(part.as_bytes(), name))
        }) && parts.next().is_some()
    }
}

/// Whether a name matches a part of a pattern.
fn matches(part: &[u8], name: &[u8]) -> bool {
    // If the rest of `name` does not match, the part after the last `*` is tried again at a later position of `name`.
    let (mut at, mut on) = (0, 0);
    let mut star = None;
    while let Some(byte) = name.get(on) {
        match part.get(at) {
            Some(b'*') => {
                star = Some((at + 1, on));
                at += 1;
            }
            Some(wanted) if wanted == byte => {
                at += 1;
                on += 1;
            }
            _ => {
                let Some((after, begin)) = star else {
                    return false;
                };
                star = Some((after, begin + 1));
                (at, on) = (after, begin + 1);
            }
        }
    }
    part.get(at..)
        .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: configuration-protected
    #[test]
    fn names_count_at_the_top_in_any_case() {
        for name in [
            "AGENTS.md",
            "agents.MD",
            ".github/workflows/x.yml",
            ".Claude/settings.json",
        ] {
            assert!(holds(name.as_bytes()), "{name}");
        }
        for name in [
            "docs/AGENTS.md",
            "AGENTS.md.bak",
            ".gitlab-ci",
            "node_modules/p/.vscode/x",
        ] {
            assert!(!holds(name.as_bytes()), "{name}");
        }
    }

    /// Claims: configuration-protected
    #[test]
    fn patterns_cover_what_they_match_and_everything_below() {
        let covers =
            |pattern: &str, name: &str| pattern.parse::<Pattern>().unwrap().covers(name.as_bytes());
        assert!(covers("AGENTS.md", "AGENTS.md"));
        assert!(covers(".claude/", ".claude/commands/x.md"));
        assert!(covers(".claude/*.md", ".claude/a.md"));
        assert!(covers(".g*/a*b*c", ".github/axbxbxc/d"));
        assert!(covers("*", "CLAUDE.md"));
        for (pattern, name) in [
            ("AGENTS.md", "agents.md"),
            (".claude/commands", ".claude"),
            (".claude/*.md", ".claude/settings.json"),
            (".claude/*.md", ".claude/a.md.sh"),
            (".github", ".gitlab/x"),
            (".g*/a*b*c", ".github/axbxbx"),
        ] {
            assert!(!covers(pattern, name), "{pattern} {name}");
        }
        let below = |pattern: &str, name: &str| {
            let pattern: Pattern = pattern.parse().unwrap();
            pattern.reaches_below(name.as_bytes())
        };
        assert!(below(".claude/commands/*.md", ".claude/commands"));
        assert!(below(".claude/commands/*.md", ".claude"));
        assert!(!below(".claude/commands", ".claude/commands"));
        assert!(!below(".claude/commands", ".claude/other"));
    }

    #[test]
    fn patterns_that_match_nothing_protected_are_refused() {
        for text in [
            "",
            "/AGENTS.md",
            "../AGENTS.md",
            ".claude//x",
            ".claude/./x",
        ] {
            assert_eq!(
                text.parse::<Pattern>(),
                Err(PatternError::NotPlain),
                "{text}"
            );
        }
        for text in ["src", "agents.md", "docs/AGENTS.md"] {
            assert_eq!(
                text.parse::<Pattern>(),
                Err(PatternError::NotProtected),
                "{text}"
            );
        }
    }
}
