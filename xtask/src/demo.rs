//! `demo`: runs an example agent behind the boundary. The demo starts on a new machine and ends with a verified packet.
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::build;
use crate::layout::Layout;
use crate::program::{cargo, program, run as run_program};
use crate::setup;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also install the published verifiers, and verify the packet with them
    #[arg(long)]
    published_verifiers: bool,
}

/// Builds `egress` and the demo, and runs the example agent.
///
/// # Errors
/// Fails if a program cannot be built or installed, or if a verifier rejects the packet.
pub(crate) fn run(layout: &Layout, args: &Args) -> Result<()> {
    setup::for_demo(layout)?;
    if args.published_verifiers {
        setup::verifiers(layout)?;
    }
    let [binary, demo] = build::quick(layout, "egress-demo")?;
    run_program(in_world(layout, &demo, &binary).arg(layout.target.join("demo")))
}

/// Builds a program of the test crate that does not use the library with the kernel programs.
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
            "--no-default-features",
        ])
        .args(["--bin", name]);
    run_program(&mut build)?;
    Ok(layout.target.join("release").join(name))
}

/// Returns a command for a program of the test crate, with the paths that it needs in its environment.
pub(crate) fn in_world(layout: &Layout, tool: &Path, binary: &Path) -> Command {
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
