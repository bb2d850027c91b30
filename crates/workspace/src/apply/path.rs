//! Paths below the workspace, as bytes without a slash at either end.
//!
//! Claims: read-names
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use egress_policy::path_text::{escape, unescape};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A path below the workspace, empty for the workspace itself. The text of a path is UTF-8, with each
/// backslash doubled and each byte that is not UTF-8 written as `\xNN`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelPath(pub Vec<u8>);

impl RelPath {
    /// Returns the path of the entry `name` in this directory.
    #[must_use]
    pub fn join(&self, name: &OsStr) -> Self {
        let mut bytes = self.0.clone();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name.as_bytes());
        Self(bytes)
    }

    /// Returns the path of the parent directory, and the last name.
    pub fn split(&self) -> (Self, &OsStr) {
        let at = self.0.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = match at {
            Some(at) => (
                self.0.get(..at).unwrap_or_default(),
                self.0.get(at + 1..).unwrap_or_default(),
            ),
            None => (&[][..], self.0.as_slice()),
        };
        (Self(parent.to_vec()), OsStr::from_bytes(name))
    }

    /// Returns the names of the path, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
    }

    /// Returns the number of names in the path.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// Whether the path is `other` or below it. Every path is below the workspace.
    pub fn is_within(&self, other: &Self) -> bool {
        other.0.is_empty()
            || self
                .0
                .strip_prefix(other.0.as_slice())
                .is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
    }

    /// Whether the path is one of `others` or below one of them.
    pub fn is_within_any(&self, others: &BTreeSet<Self>) -> bool {
        let mut at = self.clone();
        loop {
            if others.contains(&at) {
                return true;
            }
            if at.0.is_empty() {
                return false;
            }
            at = at.split().0;
        }
    }

    /// Whether one of `others` is below the path.
    pub fn holds_any(&self, others: &BTreeSet<Self>) -> bool {
        let mut begin = self.0.clone();
        if !begin.is_empty() {
            begin.push(b'/');
        }
        let begin = Self(begin);
        let next = others.range(&begin..).next();
        next.is_some_and(|other| other.0.starts_with(&begin.0))
    }

    /// Returns the path for system calls, with `.` for the workspace itself.
    pub fn as_os_str(&self) -> &OsStr {
        if self.0.is_empty() {
            OsStr::new(".")
        } else {
            OsStr::from_bytes(&self.0)
        }
    }

    /// Returns the text form of the path.
    pub fn text(&self) -> String {
        escape(&self.0)
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        unescape(&text)
            .map(Self)
            .ok_or_else(|| de::Error::custom("a path contains an invalid escape"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_have_a_text_and_come_back() {
        for bytes in [
            b"plain/name".to_vec(),
            b"back\\slash\nnewline".to_vec(),
            vec![0xff, b'a', 0xc3, 0xa9, 0xc3],
            (1..=255).collect(),
        ] {
            let path = RelPath(bytes);
            let text = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<RelPath>(&text).unwrap(), path);
        }
        assert!(serde_json::from_str::<RelPath>(r#""a\\q""#).is_err());
    }

    #[test]
    fn only_whole_names_count() {
        let path = |text: &str| RelPath(text.as_bytes().to_vec());
        assert!(path("a/b").is_within(&path("a")));
        assert!(path("a").is_within(&path("a")));
        assert!(path("a").is_within(&path("")));
        assert!(!path("ab").is_within(&path("a")));
        assert!(!path("a").is_within(&path("a/b")));
        let some = BTreeSet::from([path("a/b"), path("c"), path("d-e"), path("d/e/f")]);
        for (one, is_within, holds) in [
            ("a/b", true, false),
            ("a/b/c/d", true, false),
            ("a", false, true),
            ("a/bc", false, false),
            ("d", false, true),
            ("d/e", false, true),
            ("d/e/f/g", true, false),
            ("e", false, false),
            ("", false, true),
        ] {
            assert_eq!(path(one).is_within_any(&some), is_within, "{one}");
            assert_eq!(path(one).holds_any(&some), holds, "{one}");
        }
        assert!(path("a").is_within_any(&BTreeSet::from([path("")])));
        assert_eq!(path("a/b").split(), (path("a"), OsStr::new("b")));
        assert_eq!(path("a").split(), (path(""), OsStr::new("a")));
    }
}
