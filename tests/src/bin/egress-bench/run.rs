//! Measures the setup up to the command's first instruction, and a whole run of `true`.
use std::time::Duration;

use egress_tests::{RunOutput, World};

use crate::turns::with_program;
use crate::{Result, median, monotonic, ms, text};

/// Number of rounds of each measurement. The first round is discarded.
const ROUNDS: usize = 21;

pub(crate) fn bench() -> Result<()> {
    let world = World::new();
    let mut first = Vec::new();
    let mut bare_first = Vec::new();
    let mut whole = Vec::new();
    let mut bare_whole = Vec::new();
    for _ in 0..ROUNDS {
        let run = with_program(world.egress().allow(&[]))?;
        let program = run.directory().join("bench");

        let before = monotonic()?;
        let bare = world.runner([program.as_os_str(), "agent".as_ref(), "stamp".as_ref()]);
        bare_first.push(stamp(&bare.stdout)?.saturating_sub(before));

        let before = monotonic()?;
        let output = successful(run.command(["./bench", "agent", "stamp"]).run())?;
        first.push(stamp(&output.stdout)?.saturating_sub(before));

        bare_whole.push(world.runner(["true"]).elapsed);
        let run = world.egress().allow(&[]).command(["true"]).run();
        whole.push(successful(run)?.elapsed);
    }
    println!("medians of {} rounds", ROUNDS - 1);
    row(
        "start to the agent's first instruction",
        &first,
        &bare_first,
        45,
    );
    row("whole run of `true`", &whole, &bare_whole, 100);
    Ok(())
}

fn row(name: &str, with: &[Duration], without: &[Duration], aim: u64) {
    println!(
        "{name:<44} {:>7.1} ms (aim {aim} ms), without egress {:.1} ms",
        ms(median(with)),
        ms(median(without)),
    );
}

fn stamp(output: &str) -> Result<Duration> {
    let nanoseconds = output.trim().parse().map_err(text)?;
    Ok(Duration::from_nanos(nanoseconds))
}

fn successful(run: RunOutput) -> Result<RunOutput> {
    if run.success() {
        Ok(run)
    } else {
        Err(run.to_string())
    }
}
