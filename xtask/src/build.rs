//! `build`: the kernel programs, then the `egress` binary with them inside.
use std::path::PathBuf;

use anyhow::Result;

use crate::ebpf;
use crate::layout::Layout;
use crate::program::{cargo, run as run_program};

/// What `build` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build with optimisations
    #[arg(long)]
    pub(crate) release: bool,
}

/// Builds and gives the path of the binary.
///
/// # Errors
/// If a build fails or something that it needs cannot be installed.
pub(crate) fn run(layout: &Layout, args: &Args) -> Result<PathBuf> {
    let object = ebpf::run(layout)?;
    let mut build = cargo();
    build
        .current_dir(&layout.root)
        .args([
            "build",
            "--locked",
            "--package",
            "egress-user",
            "--bin",
            "egress",
        ])
        .env(ebpf::OBJECT_VARIABLE, &object.path)
        .env(ebpf::DEBUG_OBJECT_VARIABLE, &object.debug_path);
    if args.release {
        build.arg("--release");
    }
    run_program(&mut build)?;
    let profile = if args.release { "release" } else { "debug" };
    Ok(layout.target.join(profile).join("egress"))
}
