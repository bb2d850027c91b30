//! The tasks of the project.
//!
//! Missing tools are installed with apt, cargo, rustup, go, pip, and npm. Each installation is printed.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task runner prints to the terminal"
)]

mod attacks;
mod bench;
mod book;
mod build;
mod claims;
mod compiler;
mod demo;
mod dist;
mod ebpf;
mod imports;
mod layout;
mod lint;
mod program;
mod setup;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::layout::Layout;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, test, and measure egress")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Try every attack, behind the boundary and without it
    Attacks(attacks::Args),
    /// Measure the cost of the boundary
    Bench(bench::Args),
    /// Build the kernel programs and the `egress` binary
    Build(build::Args),
    /// Print each claim of the documents with its source files and its tests
    Claims {
        /// Only claims whose identifiers contain this text
        #[arg(default_value = "")]
        part: String,
    },
    /// Run an example agent behind the boundary and verify its packet
    Demo,
    /// Build the files of a release
    Dist(dist::Args),
    /// Build only the kernel programs and print the digest of the object
    Ebpf,
    /// Check formatting, lints, documentation, licenses, and unused dependencies
    Lint,
    /// Write docs/schema/ and docs/format/members.md from the types of the formats
    Schemas,
    /// Install the tools that building and testing need
    Setup,
    /// Run all tests as root: unit, documentation, and end-to-end tests
    Test(test::Args),
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args.task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> anyhow::Result<()> {
    let layout = Layout::find()?;
    match task {
        Task::Attacks(args) => attacks::run(&layout, args),
        Task::Bench(args) => bench::run(&layout, args),
        Task::Build(args) => build::run(&layout, args).map(|binary| {
            println!("{}", binary.display());
        }),
        Task::Claims { part } => claims::list(&layout, part),
        Task::Demo => demo::run(&layout),
        Task::Dist(args) => dist::run(&layout, args).map(|dir| {
            println!("{}", dir.display());
        }),
        Task::Ebpf => ebpf::run(&layout).map(|object| {
            println!("{}  {}", object.sha256, object.path.display());
        }),
        Task::Lint => lint::run(&layout),
        Task::Schemas => lint::schemas(&layout, false),
        Task::Setup => setup::everything(&layout),
        Task::Test(args) => test::run(&layout, args),
    }
}
