//! `demo`: an example agent behind the boundary, from nothing to a verified packet.
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::build;
use crate::layout::Layout;
use crate::program::{cargo, program, run as run_program};
use crate::setup;

/// Builds everything and runs the example agent.
///
/// # Errors
/// If something cannot be built or installed, or a verifier is not satisfied.
pub(crate) fn run(layout: &Layout) -> Result<()> {
    setup::everything(layout)?;
    let binary = build::optimised(layout)?;
    let demo = tool(layout, "egress-demo")?;
    let mut demo = in_world(layout, &demo, &binary);
    run_program(demo.arg(layout.target.join("demo")))
}

/// Builds one of the programs of the test crate.
pub(crate) fn tool(layout: &Layout, name: &str) -> Result<PathBuf> {
    let mut build = cargo();
    build
        .current_dir(&layout.root)
        .args([
            "build",
            "--locked",
            "--release",
            "--package",
            "egress-tests",
        ])
        .args(["--bin", name]);
    run_program(&mut build)?;
    Ok(layout.target.join("release").join(name))
}

/// A command for a program of the test crate, told where things are.
pub(crate) fn in_world(layout: &Layout, tool: &Path, binary: &Path) -> Command {
    let mut command = program(tool);
    command
        .env("EGRESS_BIN", binary)
        .env("EGRESS_TOOLS", layout.tools())
        .env("EGRESS_REF_VERIFIER_RS", layout.verifier_rs())
        .env("EGRESS_REF_VERIFIER_PY", layout.verifier_py());
    command
}
