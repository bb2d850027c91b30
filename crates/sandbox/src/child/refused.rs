//! Determines why a command could not be executed.
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};

/// Number of bytes at the start of a script that the kernel reads (`BINPRM_BUF_SIZE`).
const FIRST_LINE: u64 = 256;

/// Reason why the command could not be executed. Paths and interpreters are text for messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case", deny_unknown_fields)]
pub enum NotExecuted {
    /// The file does not exist.
    NotFound {
        /// Directories of PATH, or on the way to the file, that the command's user cannot enter.
        closed: Vec<String>,
    },
    /// The file is a program whose interpreter does not exist.
    NoInterpreter {
        /// The file.
        path: String,
        /// The interpreter of a script, if the file is one.
        interpreter: Option<String>,
    },
    /// The file is a script whose interpreter the command's user may not execute.
    ClosedInterpreter {
        /// The file.
        path: String,
        /// The interpreter.
        interpreter: String,
        /// The directory on the way to the interpreter that the command's user may not enter. If `None`, the
        /// interpreter itself is not executable.
        closed: Option<String>,
    },
    /// The file is neither a program nor a script with an interpreter in its first line.
    NoFirstLine {
        /// The file.
        path: String,
    },
    /// The kernel denied the execution for another reason.
    Refused {
        /// The file.
        path: String,
        /// The kernel's error.
        errno: i32,
    },
}

impl NotExecuted {
    /// Returns the exit status, as in shells (POSIX, "Exit Status for Commands"): 127 if the command was not
    /// found, 126 otherwise.
    pub fn status(&self) -> i32 {
        match self {
            Self::NotFound { .. } | Self::NoInterpreter { .. } => 127,
            Self::ClosedInterpreter { .. } | Self::NoFirstLine { .. } | Self::Refused { .. } => 126,
        }
    }

    /// Returns the reason for a failure before the first file was tried.
    pub(super) fn before(errno: Errno) -> Self {
        let (path, errno) = (String::new(), errno as i32);
        Self::Refused { path, errno }
    }

    /// Adds the error that `execve` returned for one candidate. Once a candidate is an existing file, the errors of
    /// later candidates do not replace the reason.
    pub(super) fn add(&mut self, candidate: &Path, errno: Errno) {
        let Self::NotFound { closed } = self else {
            return;
        };
        let path = candidate.to_string_lossy().into_owned();
        match fs::metadata(candidate) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                closed.extend(closed_directory(candidate));
            }
            Err(_) => {}
            // Shells do not count a directory as a command either.
            Ok(meta) if meta.is_dir() && errno == Errno::EACCES => {}
            Ok(_) => {
                let first = first_line(candidate).unwrap_or_default();
                let script = first.strip_prefix("#!");
                let interpreter = script.map(|rest| {
                    let words = rest.trim_start_matches([' ', '\t']);
                    words
                        .split([' ', '\t'])
                        .next()
                        .unwrap_or_default()
                        .to_owned()
                });
                let is_lost = matches!(errno, Errno::ENOENT | Errno::ENOTDIR);
                let is_text = script.is_none() && !first.starts_with("\x7fELF");
                *self = if is_lost {
                    Self::NoInterpreter { path, interpreter }
                } else if errno == Errno::EACCES
                    && may_execute(candidate)
                    && let Some(interpreter) = interpreter
                {
                    Self::ClosedInterpreter {
                        closed: closed_directory(Path::new(&interpreter)),
                        path,
                        interpreter,
                    }
                } else if errno == Errno::ENOEXEC && is_text {
                    Self::NoFirstLine { path }
                } else {
                    let errno = errno as i32;
                    Self::Refused { path, errno }
                };
            }
        }
    }
}

/// Whether the permissions of the file let this user execute it.
fn may_execute(path: &Path) -> bool {
    access(path, AccessFlags::X_OK).is_ok()
}

/// Returns the first directory on the way to `path` that this user may not enter.
fn closed_directory(path: &Path) -> Option<String> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    let closed = above.into_iter().find(|dir| {
        fs::metadata(dir.join("."))
            .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    });
    Some(closed?.to_string_lossy().into_owned())
}

fn first_line(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FIRST_LINE).read_to_end(&mut bytes)?;
    let line = bytes.split(|byte| *byte == b'\n').next();
    Ok(String::from_utf8_lossy(line.unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_reason_is_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let why = |path: &Path, errno| {
            let mut why = NotExecuted::NotFound { closed: Vec::new() };
            why.add(path, errno);
            why
        };
        let not_found = NotExecuted::NotFound { closed: Vec::new() };
        assert_eq!(why(&dir.path().join("nothing"), Errno::ENOENT), not_found);
        assert_eq!(why(dir.path(), Errno::EACCES), not_found);
        let plain = file("plain", "echo hello\n");
        let path = plain.to_string_lossy().into_owned();
        assert_eq!(
            why(&plain, Errno::ENOEXEC),
            NotExecuted::NoFirstLine { path }
        );
        let script = file("script", "#! /no/such -x\n");
        let path = script.to_string_lossy().into_owned();
        let interpreter = Some("/no/such".to_owned());
        let found = why(&script, Errno::ENOENT);
        assert_eq!(found.status(), 127);
        assert_eq!(found, NotExecuted::NoInterpreter { path, interpreter });
        // The command may execute the script, but not its interpreter.
        let interpreter = dir.path().join("interpreter").display().to_string();
        let closed = file("closed", &format!("#!{interpreter}\n"));
        file("interpreter", "");
        let found = why(&closed, Errno::EACCES);
        assert_eq!(found.status(), 126);
        assert_eq!(
            found,
            NotExecuted::ClosedInterpreter {
                path: closed.to_string_lossy().into_owned(),
                interpreter,
                closed: None
            }
        );
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o644)).unwrap();
        let errno = libc::EACCES;
        let path = closed.to_string_lossy().into_owned();
        assert_eq!(
            why(&closed, Errno::EACCES),
            NotExecuted::Refused { path, errno }
        );
        // An existing file determines the reason, whatever follows it in PATH.
        let mut found = why(&plain, Errno::EACCES);
        found.add(&dir.path().join("nothing"), Errno::ENOENT);
        assert_eq!(found.status(), 126);
    }
}
