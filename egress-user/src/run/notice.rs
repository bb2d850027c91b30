//! A notice for the caller that is not a part of the verdict.

/// A notice for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The subject of the notice.
    pub kind: NoticeKind,
    /// The text, in one line.
    pub text: String,
}

/// The subject of a notice, with which a caller selects notices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoticeKind {
    /// Limits of Pipelock were raised, which requires no action.
    RaisedLimits,
    /// A file was hidden from the command, because it may hold a credential. The text names the file and its hidden keys.
    /// Most machines have such files, so a caller may name them all in one line.
    HiddenFile(String),
    /// Any other subject.
    General,
}

impl Notice {
    /// Returns a notice that every caller shows.
    pub(super) fn general(text: String) -> Self {
        let kind = NoticeKind::General;
        Self { kind, text }
    }
}

/// Returns one line that names the first `most` hidden files, or nothing if no file was hidden.
pub fn hidden_files(notices: &[Notice], most: usize) -> Option<String> {
    let files = notices.iter().filter_map(|notice| match &notice.kind {
        NoticeKind::HiddenFile(file) => Some(file.as_str()),
        NoticeKind::RaisedLimits | NoticeKind::General => None,
    });
    let files: Vec<&str> = files.collect();
    let what = match files.len() {
        0 => return None,
        1 => String::from("1 file that may hold a credential"),
        count => format!("{count} files that may hold credentials"),
    };
    let named = files.iter().take(most).copied().collect::<Vec<_>>();
    let more = match files.len().saturating_sub(most) {
        0 => String::new(),
        more => format!(", and {more} more, in boundary.json"),
    };
    Some(format!(
        "{what}: {}{more}; --show-credential PATH shows a file",
        named.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_files_are_named_in_one_line() {
        let file = |name: &str| Notice {
            kind: NoticeKind::HiddenFile(format!("/w/{name} (the whole file)")),
            text: String::from("hidden"),
        };
        let general = Notice::general(String::from("other"));
        assert_eq!(hidden_files(std::slice::from_ref(&general), 10), None);
        let one = [general, file(".npmrc")];
        assert_eq!(
            hidden_files(&one, 10).unwrap(),
            "1 file that may hold a credential: /w/.npmrc (the whole file); --show-credential PATH shows a file"
        );
        let many = ["a", "b", "c"].map(file);
        assert_eq!(
            hidden_files(&many, 2).unwrap(),
            "3 files that may hold credentials: /w/a (the whole file), /w/b (the whole file), and 1 more, in \
             boundary.json; --show-credential PATH shows a file"
        );
    }
}
