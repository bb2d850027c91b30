//! Measures the built binary in a world of its own. `cargo xtask bench` builds and starts it.
//!
//! Times on a shared machine mean little by themselves; every figure stands beside the same work
//! without a boundary, measured in the same loop.
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

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::ExitCode;
use std::time::Duration;

use egress_tests::{RunOutput, World};
use nix::time::{ClockId, clock_gettime};

/// Rounds of each measurement; the first of each is thrown away.
const ROUNDS: usize = 21;

fn main() -> ExitCode {
    let what = std::env::args().nth(1).unwrap_or_default();
    let done = match what.as_str() {
        // The agent of `run`: its first instruction is to tell the time.
        "stamp" => monotonic().map(|now| println!("{}", now.as_nanos())),
        "run" => run(),
        other => Err(format!("no benchmark is called {other:?}: use run")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Set-up to the agent's first instruction, and a whole run of `true`.
fn run() -> Result<(), String> {
    let world = World::new();
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = std::fs::read(program).map_err(|error| error.to_string())?;

    let mut first_instruction = Vec::new();
    let mut bare_first_instruction = Vec::new();
    let mut whole = Vec::new();
    let mut bare_whole = Vec::new();
    for _ in 0..ROUNDS {
        // A copy, for where the project lies the agent may not be able to look.
        let run = world.egress().allow(&[]).file("stamp", &program);
        let workdir = run.directory();
        std::fs::set_permissions(workdir.join("stamp"), Permissions::from_mode(0o755))
            .map_err(|error| error.to_string())?;

        let before = monotonic()?;
        let bare = world.runner([workdir.join("stamp").as_os_str(), "stamp".as_ref()]);
        bare_first_instruction.push(stamp(&bare.stdout)?.saturating_sub(before));

        let before = monotonic()?;
        let output = successful(run.command(["./stamp", "stamp"]).run())?;
        first_instruction.push(stamp(&output.stdout)?.saturating_sub(before));

        bare_whole.push(world.runner(["true"]).elapsed);
        whole.push(successful(world.egress().allow(&[]).command(["true"]).run())?.elapsed);
    }
    println!(
        "{:<44} {:>10} {:>10} {:>8}",
        "median of 20", "egress", "bare", "aim"
    );
    row(
        "start to the agent's first instruction",
        first_instruction,
        bare_first_instruction,
        15,
    );
    row("whole run of `true`", whole, bare_whole, 100);
    Ok(())
}

fn row(name: &str, with: Vec<Duration>, without: Vec<Duration>, aim_ms: u64) {
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    println!(
        "{name:<44} {:>7.1} ms {:>7.1} ms {:>5} ms",
        ms(median(with)),
        ms(median(without)),
        aim_ms
    );
}

/// The middle one, the first round left out.
fn median(rounds: Vec<Duration>) -> Duration {
    let mut rounds: Vec<_> = rounds.into_iter().skip(1).collect();
    rounds.sort_unstable();
    rounds.get(rounds.len() / 2).copied().unwrap_or_default()
}

fn monotonic() -> Result<Duration, String> {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .map_err(|error| error.to_string())
}

fn stamp(text: &str) -> Result<Duration, String> {
    let nanoseconds = text
        .trim()
        .parse()
        .map_err(|error| format!("no time: {text:?}: {error}"))?;
    Ok(Duration::from_nanos(nanoseconds))
}

fn successful(run: RunOutput) -> Result<RunOutput, String> {
    if run.success() {
        Ok(run)
    } else {
        Err(run.to_string())
    }
}
