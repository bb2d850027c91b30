//! `test`: runs unit tests, documentation tests, and the end-to-end tests of the built binary.
use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::build::{self, Example};
use crate::dist::is_static;
use crate::ebpf;
use crate::layout::Layout;
use crate::program::{cargo, effective_uid, run as run_program};
use crate::setup;

/// The crate of the privileged end-to-end tests.
const PRIVILEGED: &str = "egress-tests";

/// Tests that shift the clock of the binary but not the clock of the machine. These tests use a library that the
/// dynamic linker loads into the binary.
const BY_DYNAMIC_LINKER: [&str; 2] = [
    "deadlines_do_not_move_with_the_clock",
    "step_back_overwrites_nothing_and_is_reported",
];

/// Variable with the directory whose `corpora` contain evidence with known verdicts.
const CORPORA_VARIABLE: &str = "EGRESS_SHARED";

/// Variable with the real Pipelocks to test, separated by `:`.
const PIPELOCK_VARIABLE: &str = "PIPELOCK_BIN";

/// Variable that selects the changes of packets that the mutation tests make.
const MUTATIONS_VARIABLE: &str = "EGRESS_MUTATIONS";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only the tests with real Pipelocks, once for each Pipelock that `PIPELOCK_BIN` names, separated by `:`
    #[arg(long)]
    real_pipelock: bool,
    /// Run only the mutation tests, with every change of a packet instead of a sample. With `--real-pipelock`, change
    /// the packets of each Pipelock
    #[arg(long)]
    mutations: bool,
    /// Run only the end-to-end tests, with this binary instead of a new build
    #[arg(long, value_name = "FILE", conflicts_with = "real_pipelock")]
    binary: Option<PathBuf>,
}

/// Installs missing tools, builds, and runs all tests.
///
/// # Errors
/// Fails if a test fails, or the caller is not root. Without root, the boundary cannot be tested.
pub(crate) fn run(layout: &Layout, args: &Args) -> Result<()> {
    if effective_uid()? != 0 {
        bail!("the end-to-end tests need root; run `cargo xtask test` as root");
    }
    let pipelocks = if args.real_pipelock {
        pipelocks()?
    } else {
        Vec::new()
    };
    setup::everything(layout)?;
    let binary = match &args.binary {
        Some(binary) => binary
            .canonicalize()
            .with_context(|| format!("cannot use {}", binary.display()))?,
        None => build::optimised(layout)?,
    };

    let corpora = corpora(layout);
    match &corpora {
        Some(shared) => println!("test: evidence with known verdicts in {}", shared.display()),
        None => println!(
            "test: LEFT OUT: evidence with known verdicts, because {CORPORA_VARIABLE} does not name a \
             directory with such evidence"
        ),
    }
    let test = || {
        let mut command = cargo();
        ebpf::embed(layout, &mut command)
            .current_dir(&layout.root)
            .args(["test", "--locked", "--no-fail-fast"])
            // With this variable, a test that lacks its tools fails instead of passing.
            .env("EGRESS_TEST_REQUIRE", "all")
            .env("EGRESS_REF_VERIFIER_RS", layout.verifier_rs())
            .env("EGRESS_REF_VERIFIER_PY", layout.verifier_py())
            .env("EGRESS_TOOLS", layout.tools())
            .env("EGRESS_BIN", &binary);
        if let Some(shared) = &corpora {
            command.env(CORPORA_VARIABLE, shared);
        }
        command
    };
    for pipelock in &pipelocks {
        println!("test: end to end, with {}", pipelock.display());
        let mut command = test();
        command
            .env(PIPELOCK_VARIABLE, pipelock)
            .args(["--package", PRIVILEGED, "--features", "real-pipelock"])
            .args(["--test", "real_pipelock"]);
        if args.mutations {
            command.env(MUTATIONS_VARIABLE, "full").args([
                "--profile",
                "mutations",
                "--",
                "mutations",
                "--nocapture",
            ]);
        }
        run_program(&mut command)?;
    }
    if args.mutations && !args.real_pipelock {
        println!("test: every change of a packet");
        let mut command = test();
        command
            .env(MUTATIONS_VARIABLE, "full")
            .args(["--profile", "mutations", "--package", PRIVILEGED])
            .args(["--test", "packet", "--", "mutations::", "--nocapture"]);
        return run_program(&mut command);
    }
    if args.real_pipelock {
        return Ok(());
    }
    let exploited_relay = build::example(layout, Example::ExploitedRelay)?;
    let lying_mediator = build::example(layout, Example::LyingMediator)?;
    if args.binary.is_none() {
        println!("test: unit tests");
        run_program(test().args(["--workspace", "--exclude", PRIVILEGED, "--all-targets"]))?;
        if corpora.is_some() {
            run_program(known_verdicts(&mut test()))?;
        }
        println!("test: documentation");
        run_program(test().args(["--workspace", "--exclude", PRIVILEGED, "--doc"]))?;
    }
    println!("test: end to end");
    let mut end_to_end = test();
    end_to_end
        .env("EGRESS_EXPLOITED_RELAY_BIN", exploited_relay)
        .env("EGRESS_LYING_MEDIATOR_BIN", lying_mediator)
        .args(["--package", PRIVILEGED]);
    if is_static(&binary)? {
        without_clock(&mut end_to_end);
    }
    run_program(&mut end_to_end)?;
    if args.binary.is_none() {
        println!("test: a second build compiles nothing");
        build::optimised_compiles_nothing(layout)?;
    }
    println!(
        "test: LEFT OUT: the suite with a real Pipelock; \
         {PIPELOCK_VARIABLE}=FILE[:FILE…] cargo xtask test --real-pipelock runs it"
    );
    Ok(())
}

/// Leaves out the tests that need a dynamic binary.
fn without_clock(test: &mut Command) {
    println!("test: LEFT OUT: tests that set the clock, which need a dynamic binary");
    let skipped = BY_DYNAMIC_LINKER.into_iter();
    test.arg("--")
        .args(skipped.flat_map(|name| ["--skip", name]));
}

/// Adds the tests that need the corpora. Without this call, these tests are ignored.
fn known_verdicts(test: &mut Command) -> &mut Command {
    println!("test: evidence with known verdicts");
    test.args(["--package", "egress-user", "--test", "packet"])
        .args(["--", "--ignored"])
}

/// Returns the real Pipelocks that the caller names.
fn pipelocks() -> Result<Vec<PathBuf>> {
    let named = env::var_os(PIPELOCK_VARIABLE)
        .with_context(|| format!("--real-pipelock needs {PIPELOCK_VARIABLE}=FILE[:FILE…]"))?;
    let found: Vec<PathBuf> = env::split_paths(&named)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if found.is_empty() {
        bail!("{PIPELOCK_VARIABLE} does not name a Pipelock");
    }
    for path in &found {
        if !path.is_file() {
            bail!(
                "{PIPELOCK_VARIABLE} names {}, which is not a file",
                path.display()
            );
        }
    }
    Ok(found)
}

/// Returns the directory that contains `corpora` with evidence whose verdicts are known. The caller can name this
/// directory. Otherwise, it is a directory `shared` in the project or in a directory above the project. The corpora are
/// not part of the repository.
fn corpora(layout: &Layout) -> Option<PathBuf> {
    env::var_os(CORPORA_VARIABLE)
        .map(PathBuf::from)
        .or_else(|| {
            let mut beside = layout.root.ancestors().map(|dir| dir.join("shared"));
            beside.find(|dir| dir.join("corpora/cases.json").is_file())
        })
}
