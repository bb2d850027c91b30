//! Starts other programs. The only module of this crate that does.
#![expect(
    clippy::disallowed_methods,
    reason = "tasks start the compiler, package clients and the built binary"
)]
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A command for `program`, a name on PATH or a path.
pub(crate) fn program(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// A command for the cargo that started this task.
///
/// What cargo tells `xtask` about its own package is taken out of the environment: build scripts
/// that watch those variables would otherwise run again after every direct `cargo build`.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    without_package(&mut command);
    command
}

/// Takes the variables that describe the package `xtask` out of the environment of `command`.
pub(crate) fn without_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        if text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST_")
            || matches!(text, "CARGO_BIN_NAME" | "CARGO_CRATE_NAME" | "OUT_DIR")
        {
            command.env_remove(&name);
        }
    }
}

/// Runs `command` with this task's own output.
///
/// # Errors
/// If it cannot start or does not exit with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", display(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", display(command));
    }
    Ok(())
}

/// Runs `command` and gives what it wrote to standard output.
///
/// # Errors
/// If it cannot start, does not exit with 0, or writes no UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", display(command)))?;
    if !output.status.success() {
        bail!(
            "{} failed: {}\n{}",
            display(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of {}", display(command)))
}

/// Whether `command` starts and exits with 0; its output is thrown away.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The effective user id of this process.
///
/// # Errors
/// If /proc does not have it.
pub(crate) fn effective_uid() -> Result<u32> {
    let status =
        fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("Uid:")?
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()
        })
        .context("/proc/self/status has no user id")
}

/// Where PATH finds `name`.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    in_directories(&env::var_os("PATH")?, name)
}

/// Where the directories of `path`, written as PATH is, have a program `name`.
pub(crate) fn in_directories(path: &OsStr, name: &str) -> Option<PathBuf> {
    env::split_paths(path)
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.metadata()
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    }
    #[cfg(not(unix))]
    file.is_file()
}

/// The command line as a person would type it, for messages.
fn display(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// Where PATH finds `name`, or where `cargo install` puts it.
pub(crate) fn on_path_or_installed(name: &str) -> Option<PathBuf> {
    on_path(name).or_else(|| {
        let file = cargo_home()?.join("bin").join(name);
        file.exists().then_some(file)
    })
}

/// Where cargo keeps what it fetches and installs.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| {
        let home = env::var_os("HOME")?;
        Some(Path::new(&home).join(".cargo"))
    })
}
