//! Determines whether the command was not found because its program is in the caller's closed home.
//!
//! Claims: home-tools
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::ending::NotExecuted;

/// A home that other users cannot enter. The command sees only directories of programs in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedHome {
    /// Path of the home without links.
    pub path: PathBuf,
    /// Whether the command sees the directories of programs.
    pub shows_tools: bool,
    /// Directories in the home that the command sees.
    pub shown: Vec<PathBuf>,
    /// Directories of the caller's PATH, and the directories that a login shell of the home's user adds to PATH.
    pub searched: Vec<PathBuf>,
}

impl ClosedHome {
    /// Returns whether the program `command`, or the interpreter that `why` names, exists in the home but not in the
    /// command's file view.
    pub(super) fn hides(&self, why: &NotExecuted, command: &OsStr, workdir: &Path) -> bool {
        match why {
            NotExecuted::NotFound { .. } if command.as_bytes().contains(&b'/') => {
                self.hides_file(&workdir.join(command))
            }
            NotExecuted::NotFound { .. } => {
                let mut found = self.searched.iter().map(|dir| dir.join(command));
                found.any(|path| self.hides_file(&path))
            }
            NotExecuted::NoInterpreter {
                interpreter: Some(interpreter),
                ..
            }
            | NotExecuted::ClosedInterpreter { interpreter, .. } => {
                self.hides_file(&workdir.join(interpreter))
            }
            NotExecuted::NoInterpreter {
                interpreter: None, ..
            }
            | NotExecuted::NoFirstLine { .. }
            | NotExecuted::Refused { .. } => false,
        }
    }

    fn hides_file(&self, path: &Path) -> bool {
        let Ok(real) = path.canonicalize() else {
            return false;
        };
        let is_shown = self.shown.iter().any(|dir| real.starts_with(dir));
        real.starts_with(&self.path) && !is_shown && real.is_file()
    }
}
