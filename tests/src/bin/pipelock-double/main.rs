//! A stand-in for Pipelock with faults that a real Pipelock cannot be made to produce.
//!
//! The stand-in imitates the commands, ports, evidence, and shutdown of a real Pipelock that egress uses. It does not
//! forward requests, and answers them itself. `double: FAULT` in its configuration selects the fault ([`Fault`]).
//! Pipelock does not have this key.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "it prints what Pipelock prints"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a fault changes one place; all other places behave as without it"
)]

mod ledger;
mod serve;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use serde_json::Value;

use ledger::Ledger;
use serve::{Server, listen};

/// The fault of the stand-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No fault.
    None,
    /// The stand-in listens only after a second.
    SlowStart,
    /// The stand-in never listens.
    Silent,
    /// The stand-in exits before it listens, although its configuration is valid.
    CrashAtStart,
    /// The stand-in does not speak HTTP.
    Garbage,
    /// The stand-in reports that it is not healthy.
    Unhealthy,
    /// The kill switch of the stand-in is on.
    KillSwitch,
    /// The stand-in does not support keys that are newer than 2.4, and does not open a session.
    Old,
    /// The stand-in rejects every configuration.
    Refuses,
    /// The session of the stand-in does not bind the capsule.
    NotBound,
    /// The stand-in exits at the first request.
    CrashAtRequest,
    /// The stand-in writes a receipt 300 ms after the answer.
    LateReceipts,
    /// The stand-in does not write receipts for allowed requests.
    NoReceipts,
    /// The stand-in reports that a receipt could not be written.
    EmitFailures,
    /// The stand-in never closes a tunnel.
    OpenTunnel,
    /// The stand-in never completes a request.
    EndlessRequest,
    /// The stand-in writes all evidence and does not exit.
    HangsAtStop,
    /// The stand-in does not exit and does not write the end of the evidence.
    HangsUnfinished,
    /// The last line of the evidence is cut off.
    TornLine,
    /// The stand-in starts a new file after every four lines.
    Rotates,
    /// The stand-in prints output all the time.
    Talkative,
}

impl Fault {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "" => Self::None,
            "slow-start" => Self::SlowStart,
            "silent" => Self::Silent,
            "crash-at-start" => Self::CrashAtStart,
            "garbage" => Self::Garbage,
            "unhealthy" => Self::Unhealthy,
            "kill-switch" => Self::KillSwitch,
            "old" => Self::Old,
            "refuses" => Self::Refuses,
            "not-bound" => Self::NotBound,
            "crash-at-request" => Self::CrashAtRequest,
            "late-receipts" => Self::LateReceipts,
            "no-receipts" => Self::NoReceipts,
            "emit-failures" => Self::EmitFailures,
            "open-tunnel" => Self::OpenTunnel,
            "endless-request" => Self::EndlessRequest,
            "hangs-at-stop" => Self::HangsAtStop,
            "hangs-unfinished" => Self::HangsUnfinished,
            "torn-line" => Self::TornLine,
            "rotates" => Self::Rotates,
            "talkative" => Self::Talkative,
            _ => return None,
        })
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["--version"] => {
            println!("pipelock version 0.0.0-double");
            Ok(())
        }
        ["check", "--config", path] => read(Path::new(path)).map(drop),
        ["run", "--config", path] => read(Path::new(path)).and_then(|config| run(&config)),
        _ => Err(format!("unknown arguments {words:?}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A configuration, and the fault that it requests.
struct Config {
    fault: Fault,
    yaml: String,
    value: Value,
}

impl Config {
    fn text(&self, pointer: &str) -> Result<&str, String> {
        let value = self.value.pointer(pointer).and_then(Value::as_str);
        value.ok_or_else(|| format!("{pointer} is missing"))
    }
}

fn read(path: &Path) -> Result<Config, String> {
    let yaml = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let value: Value = serde_saphyr::from_str(&yaml).map_err(|error| error.to_string())?;
    let name = value.get("double").and_then(Value::as_str);
    let fault = Fault::named(name.unwrap_or_default()).ok_or("unknown fault")?;
    for key in ["require_receipts", "completeness"] {
        let recorder = value.get("flight_recorder");
        if fault == Fault::Old && recorder.is_some_and(|recorder| recorder.get(key).is_some()) {
            return Err(format!(
                "field {key} not found in type config.FlightRecorder"
            ));
        }
    }
    if fault == Fault::Refuses {
        return Err(String::from("field double not found in type config.Config"));
    }
    Ok(Config { fault, yaml, value })
}

fn run(config: &Config) -> Result<(), String> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block().map_err(|error| error.to_string())?;
    if std::env::vars_os().any(|(name, _)| {
        !["PIPELOCK_POSTURE_PROOF", "SSL_CERT_FILE"].contains(&name.to_string_lossy().as_ref())
    }) {
        return Err(String::from("unexpected environment variables"));
    }
    match config.fault {
        Fault::SlowStart => thread::sleep(Duration::from_secs(1)),
        Fault::CrashAtStart => return Err(String::from("this fault ends it")),
        _ => {}
    }
    let ledger = Arc::new(Ledger::open(config)?);
    if config.fault != Fault::Silent {
        let server = Server {
            fault: config.fault,
            ledger: Arc::clone(&ledger),
        };
        for (pointer, is_proxy) in [("/metrics_listen", false), ("/fetch_proxy/listen", true)] {
            listen(config.text(pointer)?, is_proxy, &server)?;
        }
    }
    if config.fault == Fault::Talkative {
        thread::spawn(|| {
            let line = "x".repeat(1000);
            // This output fills any unread pipe, and it exceeds the size limit of the log.
            for _ in 0..6_000 {
                println!("{line}");
            }
        });
    }
    signals.wait().map_err(|error| error.to_string())?;
    if config.fault == Fault::HangsUnfinished {
        thread::sleep(Duration::from_mins(10));
    }
    ledger.close()?;
    println!("Pipelock stopped.");
    if config.fault == Fault::HangsAtStop {
        thread::sleep(Duration::from_mins(10));
    }
    Ok(())
}
