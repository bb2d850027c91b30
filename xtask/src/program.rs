//! Starts other programs. No other module of this crate starts a program.
#![expect(
    clippy::disallowed_methods,
    reason = "tasks start the compiler, package clients, and the built binary"
)]
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Returns a command for `program`, which is a path or a name on PATH.
pub(crate) fn program(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Returns a command for the cargo that started this task. The variables that describe the package `xtask` are removed.
/// Otherwise, build scripts that watch these variables would run again after every direct `cargo build`.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    without_package(&mut command);
    command
}

/// Removes the variables that describe the package `xtask` from the environment of `command`.
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

/// Runs `command` with the standard streams of this task.
///
/// # Errors
/// Fails if the program cannot start or does not exit with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", display(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", display(command));
    }
    Ok(())
}

/// Runs `command` and returns its standard output.
///
/// # Errors
/// Fails if the program cannot start, does not exit with 0, or writes output that is not UTF-8.
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

/// Runs a build again, and fails if the build compiles anything. `build` is a `cargo build` that was run before.
///
/// # Errors
/// Fails if the build fails, or if it names an artifact that is not fresh, or no artifact.
pub(crate) fn compiles_nothing(build: &mut Command) -> Result<()> {
    let messages = output(build.arg("--message-format=json"))?;
    let stale = stale(&messages).with_context(|| display(build))?;
    if !stale.is_empty() {
        bail!(
            "{} compiled again although nothing changed: {}",
            display(build),
            stale.join(", ")
        );
    }
    Ok(())
}

/// Returns the packages that cargo compiled, from the messages of a build.
fn stale(messages: &str) -> Result<Vec<String>> {
    let mut stale = Vec::new();
    let mut is_any = false;
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("cargo printed no JSON")?;
        if message.get("reason").and_then(Value::as_str) != Some("compiler-artifact") {
            continue;
        }
        is_any = true;
        let is_fresh = message.get("fresh").and_then(Value::as_bool);
        if !is_fresh.context("an artifact has no member `fresh`")? {
            let package = message.get("package_id").and_then(Value::as_str);
            stale.push(package.unwrap_or("a package without an id").to_owned());
        }
    }
    if !is_any {
        bail!("cargo named no artifact");
    }
    Ok(stale)
}

/// Returns whether `command` starts and exits with 0. The output of the program is discarded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Returns the effective user id of this process.
///
/// # Errors
/// Fails if /proc does not contain the user id.
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

/// Finds `name` on PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    in_directories(&env::var_os("PATH")?, name)
}

/// Finds the program `name` in the directories of `path`, which has the form of PATH.
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

/// Returns the command line for messages.
fn display(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// Finds `name` on PATH or in the directory of `cargo install`.
pub(crate) fn on_path_or_installed(name: &str) -> Option<PathBuf> {
    on_path(name).or_else(|| {
        let file = cargo_home()?.join("bin").join(name);
        file.exists().then_some(file)
    })
}

/// Returns the directory for cargo's downloads and installed programs.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| {
        let home = env::var_os("HOME")?;
        Some(Path::new(&home).join(".cargo"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_compiled_something_is_found() {
        let message = |package: &str, fresh: &str| {
            format!("{{\"reason\":\"compiler-artifact\",\"package_id\":\"{package}\"{fresh}}}\n")
        };
        let fresh = message("a", ",\"fresh\":true");
        let end = "{\"reason\":\"build-finished\",\"success\":true}\n";
        let of = |messages: &[&str]| stale(&messages.concat());
        assert_eq!(of(&[&fresh, end]).unwrap(), Vec::<String>::new());
        let compiled = message("b", ",\"fresh\":false");
        assert_eq!(of(&[&fresh, &compiled, end]).unwrap(), ["b"]);
        // Messages of another form do not show that nothing was compiled.
        for wrong in [end, &message("c", ""), "compiled\n", ""] {
            assert!(of(&[wrong]).is_err(), "{wrong}");
        }
    }
}
