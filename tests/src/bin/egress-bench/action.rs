//! Measures one step of a workflow with an empty script, compared with an empty step.
use std::time::Duration;

use egress_tests::workflow::Runner;

use crate::{Result, median, ms};

/// Number of rounds. The first round is discarded.
const ROUNDS: usize = 11;

pub(crate) fn bench() -> Result<()> {
    let runner = Runner::new();
    let key = runner.key("signer.key").display().to_string();
    runner.write(".pipelock/ci.yaml", "mode: strict\napi_allowlist: []\n");
    let mut steps = Vec::new();
    let mut bare = Vec::new();
    for _ in 0..ROUNDS {
        let log = runner.step(&[("KEY", &key)]);
        if !log.output().success() {
            return Err(log.output().to_string());
        }
        steps.push(duration(log.text(), "scripts/action.sh")?);
        bare.push(duration(log.text(), "actions/checkout")?);
    }
    println!(
        "one step with an empty script, median of {} rounds: {:.0} ms (aim 300 ms); for comparison, checkout {:.0} ms",
        ROUNDS - 1,
        ms(median(&steps)),
        ms(median(&bare))
    );
    Ok(())
}

/// Returns the time of a step in the runner's log.
fn duration(log: &str, step: &str) -> Result<Duration> {
    let line = log
        .lines()
        .find(|line| line.contains("Success - Main") && line.contains(step));
    let took = line.and_then(|line| line.rsplit_once('[')?.1.strip_suffix(']'));
    let took = took.ok_or_else(|| format!("no time of {step} in:\n{log}"))?;
    let seconds = match took.strip_suffix("ms") {
        Some(milliseconds) => milliseconds.parse::<f64>().map(|number| number / 1000.0),
        None => took.trim_end_matches('s').parse(),
    };
    seconds
        .map(Duration::from_secs_f64)
        .map_err(|error| format!("{took}: {error}"))
}
