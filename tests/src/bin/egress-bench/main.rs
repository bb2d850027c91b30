//! Measures the built binary in its own world. `cargo xtask bench` builds and starts this program.
//!
//! On a shared machine, a time alone has little meaning, so each measurement alternates with the same work without the
//! measured part.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]
#![expect(
    clippy::float_arithmetic,
    reason = "ratios and milliseconds are for reading"
)]

mod action;
mod agent;
mod connect;
mod packet;
mod pipelock;
mod relay;
mod run;
mod turns;

use std::process::ExitCode;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A failure, as a message.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["action"] => action::bench(),
        ["connect"] => connect::bench(),
        ["packet"] => packet::bench(),
        ["pipelock"] => pipelock::bench(),
        ["relay"] => relay::bench(),
        ["run"] => run::bench(),
        ["agent", rest @ ..] => agent::main(rest),
        _ => Err("usage: egress-bench action|connect|packet|pipelock|relay|run".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the median without the first round.
fn median(rounds: &[Duration]) -> Duration {
    let mut rounds: Vec<_> = rounds.iter().skip(1).copied().collect();
    rounds.sort_unstable();
    rounds.get(rounds.len() / 2).copied().unwrap_or_default()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Prints a measurement, the time of the same work without the measured part, and their ratio.
fn ratio(name: &str, with: &[Duration], without: &[Duration], aim: &str) {
    let (with, without) = (median(with), median(without));
    println!(
        "{name:<52} {:>9.3} ms {:>9.3} ms {:>6.2} {aim:>8}",
        ms(with),
        ms(without),
        with.as_secs_f64() / without.as_secs_f64(),
    );
}

fn monotonic() -> Result<Duration> {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
