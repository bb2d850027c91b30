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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// Limits of Pipelock were raised, which requires no action.
    RaisedLimits,
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
