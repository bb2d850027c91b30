//! Runs a real Pipelock, and rewrites its receipts after it has ended.
//!
//! `egress-liar PIPELOCK LIE ARGUMENTS…` starts `PIPELOCK ARGUMENTS…`. If Pipelock mediates a run, `egress-liar` waits
//! until Pipelock has ended and then applies the lie to the evidence. `egress-liar` signs the result with the key in
//! Pipelock's configuration, and does not change any other file.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "it takes the place of Pipelock, so its output is in Pipelock's log"
)]

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};

use egress_tests::liar;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use pipelock_receipts::keys::load_private;
use serde_json::Value;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(pipelock), Some(lie)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: egress-liar PIPELOCK LIE ARGUMENT…");
        return ExitCode::from(64);
    };
    let arguments: Vec<OsString> = arguments.collect();
    let mut command = Command::new(pipelock);
    command.args(&arguments);
    let [verb, option, config] = arguments.as_slice() else {
        return never(command.exec());
    };
    if verb != "run" || option != "--config" {
        return never(command.exec());
    }
    match lying(&mut command, &lie.to_string_lossy(), config.as_ref()) {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            code.map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(error) => never(error),
    }
}

fn never(error: io::Error) -> ExitCode {
    eprintln!("egress-liar: {error}");
    drop(error);
    ExitCode::FAILURE
}

/// Runs Pipelock to its end, and changes the evidence.
fn lying(command: &mut Command, lie: &str, config: &Path) -> io::Result<ExitStatus> {
    let mut child = command.spawn()?;
    // The signals are blocked after the start, because a child inherits blocked signals.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    let status = end(&mut child, &signals)?;
    if status.signal().is_none() {
        tell(lie, config)?;
    }
    Ok(status)
}

/// Waits for the end of Pipelock, and forwards signals that end it.
fn end(child: &mut Child, signals: &SigSet) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if signals.wait()? == Signal::SIGTERM {
            let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
            kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        }
    }
}

fn tell(lie: &str, config: &Path) -> io::Result<()> {
    let yaml = std::fs::read_to_string(config)?;
    let value: Value = serde_saphyr::from_str(&yaml).map_err(io::Error::other)?;
    let text = |pointer: &str| {
        let text = value.pointer(pointer).and_then(Value::as_str);
        text.ok_or_else(|| io::Error::other(format!("the configuration has no {pointer}")))
    };
    let key = load_private(text("/flight_recorder/signing_key_path")?.as_ref());
    let dir = text("/flight_recorder/dir")?;
    liar::tell(lie, dir.as_ref(), &key.map_err(io::Error::other)?)
}
