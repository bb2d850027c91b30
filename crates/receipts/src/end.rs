//! Tracks the entries that a clean stop writes last (evidence protocol, section 4): `session_close`, `transcript_root`,
//! and a signed checkpoint as the very last entry.
//!
//! Claims: end-proven
use super::report::End;

/// The part of the end that has been read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Progress {
    /// There is no close, or a receipt follows the close.
    #[default]
    Running,
    /// The session was closed for a reason other than a clean stop.
    ClosedOtherwise,
    /// The session was closed by a clean stop.
    Closed,
    /// A matching transcript root follows the close.
    Rooted,
}

#[derive(Debug, Default)]
pub(crate) struct Tail {
    progress: Progress,
    checkpoint_is_last: bool,
    any_checkpoint: bool,
}

impl Tail {
    /// Notes a version 1 receipt. `closes` is `Some` for a close, and `Some(true)` for the close of
    /// a clean stop.
    pub(crate) fn receipt(&mut self, closes: Option<bool>) {
        self.checkpoint_is_last = false;
        self.progress = match closes {
            None => Progress::Running,
            Some(false) => Progress::ClosedOtherwise,
            Some(true) => Progress::Closed,
        };
    }

    /// Notes a matching transcript root.
    pub(crate) fn root(&mut self) {
        self.checkpoint_is_last = false;
        if self.progress == Progress::Closed {
            self.progress = Progress::Rooted;
        }
    }

    /// Notes a signed checkpoint. Another module checks the signature of the checkpoint.
    pub(crate) fn checkpoint(&mut self) {
        self.checkpoint_is_last = true;
        self.any_checkpoint = true;
    }

    /// Notes any other entry. Version 2 receipts may come between the close and the root.
    pub(crate) fn other(&mut self) {
        self.checkpoint_is_last = false;
    }

    /// Notes a line that cannot be read.
    pub(crate) fn unreadable(&mut self) {
        self.receipt(None);
    }

    /// Returns whether the end is proven.
    pub(crate) fn end(&self, has_sessions: bool) -> End {
        let reason = match (has_sessions, self.progress) {
            (false, _) if self.checkpoint_is_last => {
                "evidence without sessions has no end record; its last entry is a signed checkpoint"
            }
            (false, _) if self.any_checkpoint => {
                "evidence without sessions has no end record, and entries follow the last checkpoint"
            }
            (false, _) => {
                "evidence without sessions has no end record, and no checkpoint is signed"
            }
            (true, Progress::Running) => {
                "the session is not closed, because the mediator was killed or the end of the file was cut off"
            }
            (true, Progress::ClosedOtherwise) => {
                "the session was closed for a reason other than a clean stop"
            }
            (true, Progress::Closed) => "no transcript root follows the close",
            (true, Progress::Rooted) if !self.checkpoint_is_last => {
                "the last entry is not a signed checkpoint"
            }
            (true, Progress::Rooted) => return End::Proven,
        };
        End::Unproven(reason)
    }
}
