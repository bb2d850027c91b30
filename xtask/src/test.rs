//! `test`: unit tests, documentation tests, then the end-to-end tests of the built binary.
use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::build;
use crate::layout::Layout;
use crate::program::{cargo, run as run_program};
use crate::setup;

/// The crate of the privileged end-to-end tests.
const PRIVILEGED: &str = "egress-tests";

/// Installs what is missing, builds, and runs every test there is.
///
/// # Errors
/// If a test fails, or the caller is not root: the boundary cannot be tested otherwise, and a test
/// command that leaves that part out would claim too much.
pub(crate) fn run(layout: &Layout) -> Result<()> {
    if effective_uid()? != 0 {
        bail!("the end-to-end tests need root: run `cargo xtask test` as root");
    }
    setup::everything(layout)?;
    let binary = build::run(layout, &build::Args { release: true })?;

    let test = || {
        let mut command = cargo();
        command
            .current_dir(&layout.root)
            .args(["test", "--locked", "--no-fail-fast"])
            // A test whose means are missing fails instead of passing unseen.
            .env("EGRESS_TEST_REQUIRE", "all")
            .env("EGRESS_REF_VERIFIER_RS", layout.verifier_rs())
            .env("EGRESS_REF_VERIFIER_PY", layout.verifier_py())
            .env("EGRESS_BIN", &binary);
        command
    };
    println!("test: unit tests");
    run_program(test().args(["--workspace", "--exclude", PRIVILEGED, "--all-targets"]))?;
    println!("test: documentation");
    run_program(test().args(["--workspace", "--exclude", PRIVILEGED, "--doc"]))?;
    println!("test: end to end");
    run_program(test().args(["--package", PRIVILEGED]))
}

/// The effective user id of this process, without a system call of its own.
fn effective_uid() -> Result<u32> {
    let status =
        fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("Uid:")?
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()
        })
        .context("/proc/self/status has no user id")
}
