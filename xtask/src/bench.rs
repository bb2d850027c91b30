//! `bench`: measures the cost of the boundary, compared with the same work without it.
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::build;
use crate::ebpf;
use crate::layout::Layout;
use crate::program::{cargo, program, run as run_program};
use crate::setup;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The part of egress to measure
    #[arg(value_enum)]
    what: Benchmark,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Benchmark {
    /// One step of a workflow with an empty script
    Action,
    /// One connection with all hooks, compared with one without hooks
    Connect,
    /// Time and memory of the check of packets with 1,000, 10,000, and 100,000 requests
    Packet,
    /// A run with the real Pipelock that `PIPELOCK_BIN` names, compared with the same Pipelock without egress
    Pipelock,
    /// Requests through the relay, compared with requests to the mediator and without a boundary
    Relay,
    /// The time from the start to the command's first instruction, and the time of a whole run
    Run,
    /// The check of long evidence, compared with signature checks alone and with the published verifier in Rust
    Verify,
    /// One connection that the kernel records, compared with one that it does not record
    Witness,
}

/// Builds with optimizations and measures.
///
/// # Errors
/// Fails if a program cannot be built, or a measurement fails.
pub(crate) fn run(layout: &Layout, args: &Args) -> Result<()> {
    let name = match args.what {
        Benchmark::Action => "action",
        Benchmark::Connect => "connect",
        Benchmark::Packet => "packet",
        Benchmark::Pipelock => "pipelock",
        Benchmark::Relay => "relay",
        Benchmark::Run => "run",
        // This benchmark uses the recorder to write the long evidence.
        Benchmark::Verify => {
            setup::verifiers(layout)?;
            return of_library(layout, "verify_bench");
        }
        // This benchmark leaves out kernel programs one by one, and a run cannot leave out a single program.
        Benchmark::Witness => return of_library(layout, "witness_bench"),
    };
    setup::everything(layout)?;
    let binary = build::optimised(layout)?;
    let bench = tool(layout, "egress-bench")?;
    run_program(in_world(layout, &bench, &binary).arg(name))
}

/// Runs a benchmark that needs more than the binary. Such a benchmark is an example of the library.
fn of_library(layout: &Layout, name: &str) -> Result<()> {
    let binary = build::optimised(layout)?;
    // The benchmark embeds the same kernel programs as the binary. Otherwise, each of the two builds would rebuild the
    // files of the other.
    let mut build = cargo();
    ebpf::embed(layout, &mut build)
        .current_dir(&layout.root)
        .args(["build", "--locked", "--release", "--package", "egress-user"])
        .args(["--example", name]);
    run_program(&mut build)?;
    let bench = layout.target.join("release/examples").join(name);
    run_program(in_world(layout, &bench, &binary).env("EGRESS_BPF_OBJECT", layout.object()))
}

/// Builds a program of the test crate that does not use the library with the kernel programs.
fn tool(layout: &Layout, name: &str) -> Result<PathBuf> {
    let mut build = cargo();
    build
        .current_dir(&layout.root)
        .args([
            "build",
            "--locked",
            "--release",
            "--package",
            "egress-tests",
            "--no-default-features",
        ])
        .args(["--bin", name]);
    run_program(&mut build)?;
    Ok(layout.target.join("release").join(name))
}

/// Returns a command for a program of the test crate, with the paths that it needs in its environment.
fn in_world(layout: &Layout, tool: &Path, binary: &Path) -> Command {
    let mut command = program(tool);
    command
        .env("EGRESS_BIN", binary)
        .env("EGRESS_TOOLS", layout.tools())
        .env("EGRESS_REF_VERIFIER_RS", layout.verifier_rs())
        .env("EGRESS_REF_VERIFIER_PY", layout.verifier_py());
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::output;

    /// Returns the packages that a build of the test crate with these arguments uses.
    fn packages(arguments: &[&str]) -> String {
        let mut tree = cargo();
        tree.current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["tree", "--locked", "--offline", "--package", "egress-tests"])
            .args(["--edges", "normal,build", "--prefix", "none"])
            .args(arguments);
        output(&mut tree).unwrap()
    }

    #[test]
    fn kernel_programs_are_no_part_of_the_tools() {
        let holds = |tree: &str| tree.lines().any(|line| line.starts_with("egress-user "));
        assert!(
            holds(&packages(&[])),
            "the tests no longer use the stand-in"
        );
        assert!(!holds(&packages(&["--no-default-features"])));
    }
}
