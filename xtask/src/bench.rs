//! `bench`: what the boundary costs, beside the same work without it.
use anyhow::Result;
use clap::ValueEnum;

use crate::build;
use crate::demo::{in_world, tool};
use crate::layout::Layout;
use crate::program::run as run_program;
use crate::setup;

/// What `bench` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure
    #[arg(value_enum)]
    what: Benchmark,
}

/// The benchmarks.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Benchmark {
    /// One step of a workflow with an empty script
    Action,
    /// One connection with all hooks, beside one without
    Connect,
    /// A run with the real Pipelock that `PIPELOCK_BIN` names, beside that Pipelock by itself
    Pipelock,
    /// Requests through the relay, beside requests to the mediator and without a boundary
    Relay,
    /// Start to the agent's first instruction, and a whole run
    Run,
}

/// Builds optimised and measures.
///
/// # Errors
/// If something cannot be built, or a run fails.
pub(crate) fn run(layout: &Layout, args: &Args) -> Result<()> {
    setup::everything(layout)?;
    let binary = build::optimised(layout)?;
    let bench = tool(layout, "egress-bench")?;
    let mut bench = in_world(layout, &bench, &binary);
    bench.arg(match args.what {
        Benchmark::Action => "action",
        Benchmark::Connect => "connect",
        Benchmark::Pipelock => "pipelock",
        Benchmark::Relay => "relay",
        Benchmark::Run => "run",
    });
    run_program(&mut bench)
}
