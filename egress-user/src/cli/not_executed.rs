//! Explains why the command could not be executed.
use std::path::Path;

use egress_sandbox::child::exec::describe;
use pipelock_receipts::findings::visible;

use crate::run::closed_home::ClosedHome;
use crate::run::ending::NotExecuted;

/// Returns the reason, and the next step for the user. `hiding` is the closed home that hides the program or its
/// interpreter. `command` is the first word of the command.
pub(super) fn text(
    why: &NotExecuted,
    hiding: Option<&ClosedHome>,
    command: &str,
    workdir: &Path,
) -> (String, String) {
    let (text, hint) = reason(why, hiding.is_some());
    let Some(home) = hiding else {
        let is_missing = matches!(why, NotExecuted::NotFound { .. });
        let in_workdir = in_workdir(command, workdir).filter(|_| is_missing);
        return (text, in_workdir.unwrap_or_else(|| hint.to_owned()));
    };
    let path = visible(&home.path.to_string_lossy());
    let hint = if home.shows_tools {
        format!(
            "the command can use only the program directories in {path}, because other users have no permission to \
             enter it; put the directory of the program into PATH (sudo --preserve-env=PATH)"
        )
    } else {
        format!(
            "--no-home-tools hides the program directories in {path}, which other users have no permission to enter; \
             leave out this option, or install the program elsewhere, such as in /usr/local/bin"
        )
    };
    (
        format!("{text}, and the command does not have permission to enter {path}"),
        hint,
    )
}

/// Returns the next step if the command is a file in the working directory, and its name has no directory.
fn in_workdir(command: &str, workdir: &Path) -> Option<String> {
    let is_there = !command.contains('/') && workdir.join(command).is_file();
    let command = visible(command);
    is_there.then(|| {
        format!("{command} is in the working directory, which is not in PATH; write ./{command}")
    })
}

/// Returns the reason, and the next step for the user if no closed home is the cause. `is_hidden` states whether one
/// is.
fn reason(why: &NotExecuted, is_hidden: bool) -> (String, &'static str) {
    match why {
        NotExecuted::NotFound { closed } if closed.is_empty() || is_hidden => (
            String::from("it was not found"),
            "inside the boundary, /tmp and /run are empty; put the file into the working directory, or add its directory to PATH",
        ),
        NotExecuted::NotFound { closed } => {
            let mut closed: Vec<String> = closed.iter().map(|dir| visible(dir)).collect();
            closed.dedup();
            (
                format!(
                    "it was not found, and the command does not have permission to enter {}",
                    closed.join(", ")
                ),
                "if the program is in such a directory, let all users enter that directory (chmod o+x), or install the \
                 program elsewhere, such as in /usr/local/bin",
            )
        }
        NotExecuted::NoInterpreter { path, interpreter } => {
            let interpreter = match interpreter {
                Some(interpreter) => format!("{} in its first line", visible(interpreter)),
                None => String::from("its dynamic loader"),
            };
            (
                format!("{} exists, but {interpreter} was not found", visible(path)),
                "install the interpreter, or name another one before the file: bash FILE",
            )
        }
        NotExecuted::ClosedInterpreter {
            path,
            interpreter,
            closed,
        } => {
            let [path, interpreter] = [path, interpreter].map(|text| visible(text));
            let text = format!(
                "{path} exists, but the command may not execute {interpreter} in its first line"
            );
            match closed {
                _ if is_hidden => (text, ""),
                Some(closed) => (
                    format!("{text}, because it may not enter {}", visible(closed)),
                    "let all users enter that directory (chmod o+x), or name an interpreter in another directory, such \
                     as /usr/bin, in the first line",
                ),
                None => (
                    text,
                    "make the interpreter executable for all users (chmod 755), or name another one before the file: \
                     bash FILE",
                ),
            }
        }
        NotExecuted::NoFirstLine { path } => (
            format!(
                "{} is not a program, and has no first line that names an interpreter",
                visible(path)
            ),
            "write #!/bin/sh or another interpreter into its first line, or name one before the file: bash FILE",
        ),
        NotExecuted::Refused { path, errno } if *errno == libc::EACCES => (
            format!("{} is not executable for all users", visible(path)),
            "make the file executable for all users (chmod 755), or name its interpreter before the file: bash FILE",
        ),
        NotExecuted::Refused { path, errno } => {
            let path = if path.is_empty() {
                "the kernel refused"
            } else {
                path
            };
            (
                format!("{}: {}", visible(path), describe(*errno)),
                "check that the file is a program for this machine",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_names_a_file_that_is_in_the_working_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ag.sh"), "").unwrap();
        std::fs::create_dir(dir.path().join("tools")).unwrap();
        let missing = NotExecuted::NotFound { closed: Vec::new() };
        let hint = |why, command| text(why, None, command, dir.path()).1;
        assert_eq!(
            hint(&missing, "ag.sh"),
            "ag.sh is in the working directory, which is not in PATH; write ./ag.sh"
        );
        for command in ["other.sh", "tools", "tools/../ag.sh", "..", ""] {
            let hint = hint(&missing, command);
            assert!(
                hint.contains("/tmp and /run are empty"),
                "{command}: {hint}"
            );
        }
        let text_file = NotExecuted::NoFirstLine {
            path: String::from("./ag.sh"),
        };
        assert!(hint(&text_file, "ag.sh").contains("first line"));
    }
}
