//! `build`: the kernel programs, then the `egress` binary with them inside.
use std::path::PathBuf;

use anyhow::Result;

use crate::ebpf;
use crate::layout::Layout;
use crate::program::{cargo, run as run_program};

/// What `build` takes.
#[derive(Default, clap::Args)]
pub(crate) struct Args {
    /// Build with optimisations
    #[arg(long)]
    release: bool,
    /// Build the binary of the attack suite, in which a layer of the boundary can be left out
    #[arg(long, conflicts_with = "release")]
    without_layers: bool,
}

/// Builds with optimisations and gives the path of the binary.
///
/// # Errors
/// As [`run`].
pub(crate) fn optimised(layout: &Layout) -> Result<PathBuf> {
    run(
        layout,
        &Args {
            release: true,
            ..Args::default()
        },
    )
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
    let mut target = layout.target.clone();
    if args.without_layers {
        // A directory of its own: nobody shall take this binary for the other one.
        target.push("without-layers");
        build.args(["--features", "without-layers", "--target-dir"]);
        build.arg(&target);
    }
    if args.release {
        build.arg("--release");
    }
    run_program(&mut build)?;
    let profile = if args.release { "release" } else { "debug" };
    Ok(target.join(profile).join("egress"))
}
