//! Follows what a clean stop writes last (evidence protocol, section 4): `session_close`,
//! `transcript_root`, and a signed checkpoint as the very last entry.
use super::report::End;

/// How far the end has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Progress {
    /// No close, or something after it.
    #[default]
    Running,
    /// Closed for another reason than a clean stop.
    ClosedOtherwise,
    /// Closed by a clean stop.
    Closed,
    /// A matching transcript root follows the close.
    Rooted,
}

/// What has been seen of the end.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    progress: Progress,
    checkpoint_is_last: bool,
    any_checkpoint: bool,
}

impl Tail {
    /// A version 1 receipt; `closes` says whether it is a close, and whether of a clean stop.
    pub(crate) fn receipt(&mut self, closes: Option<bool>) {
        self.checkpoint_is_last = false;
        self.progress = match closes {
            None => Progress::Running,
            Some(false) => Progress::ClosedOtherwise,
            Some(true) => Progress::Closed,
        };
    }

    /// A matching transcript root.
    pub(crate) fn root(&mut self) {
        self.checkpoint_is_last = false;
        if self.progress == Progress::Closed {
            self.progress = Progress::Rooted;
        }
    }

    /// A signed checkpoint. Its signature is judged elsewhere: a wrong one makes the verdict.
    pub(crate) fn checkpoint(&mut self) {
        self.checkpoint_is_last = true;
        self.any_checkpoint = true;
    }

    /// Any other entry. Version 2 receipts may stand between close and root.
    pub(crate) fn other(&mut self) {
        self.checkpoint_is_last = false;
    }

    /// A line that cannot be read.
    pub(crate) fn unreadable(&mut self) {
        self.receipt(None);
    }

    /// The state of the end.
    pub(crate) fn end(&self, has_sessions: bool) -> End {
        let reason = match (has_sessions, self.progress) {
            (false, _) if self.checkpoint_is_last => {
                "evidence without sessions has no end record; a signed checkpoint is last"
            }
            (false, _) if self.any_checkpoint => {
                "evidence without sessions has no end record, and entries follow the last checkpoint"
            }
            (false, _) => {
                "evidence without sessions has no end record, and no checkpoint is signed"
            }
            (true, Progress::Running) => {
                "the session is not closed: the mediator was killed, or the end is cut off"
            }
            (true, Progress::ClosedOtherwise) => {
                "the session was closed for another reason than a clean stop"
            }
            (true, Progress::Closed) => "no transcript root follows the close",
            (true, Progress::Rooted) if !self.checkpoint_is_last => {
                "no signed checkpoint is the last entry"
            }
            (true, Progress::Rooted) => return End::Proven,
        };
        End::Unproven(reason)
    }
}
