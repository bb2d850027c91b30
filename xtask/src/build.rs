//! `build`: the kernel programs, then the `egress` binary with them inside.
use std::env;
use std::path::PathBuf;

use anyhow::Result;

use crate::ebpf;
use crate::layout::Layout;
use crate::program::{cargo, run as run_program};

/// A binary with a part that an attacker has taken over, for the tests of what holds or contradicts it.
#[derive(Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Example {
    /// The relay reaches for whatever it can.
    ExploitedRelay,
    /// The built-in mediator rewrites its receipts at its end.
    LyingMediator,
}

impl Example {
    fn name(self) -> &'static str {
        match self {
            Self::ExploitedRelay => "exploited_relay",
            Self::LyingMediator => "lying_mediator",
        }
    }
}

/// What `build` takes.
#[derive(Default, clap::Args)]
pub(crate) struct Args {
    /// Build with optimisations
    #[arg(long)]
    release: bool,
    /// Build a binary with a part that an attacker has taken over, instead of `egress`
    #[arg(long, value_enum, conflicts_with = "without_layers")]
    example: Option<Example>,
    /// Build the binary of the attack suite, in which a layer of the boundary can be left out
    #[arg(long, conflicts_with = "release")]
    without_layers: bool,
    /// Build for this target, instead of this machine
    #[arg(long)]
    target: Option<String>,
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

/// Builds `egress` and the program `tool` of the test crate as fast as possible, and returns their
/// paths. The binary is not optimized, and it has no kernel programs for `egress run --debug`.
///
/// # Errors
/// As [`run`].
pub(crate) fn quick(layout: &Layout, tool: &str) -> Result<[PathBuf; 2]> {
    const PROFILE: &str = "quick";
    ebpf::without_diagnostics(layout)?;
    let mut build = cargo();
    // One build for both, so that the crates they share are compiled once.
    build
        .current_dir(&layout.root)
        .args(["build", "--locked", "--profile", PROFILE])
        .args(["--package", "egress-user", "--bin", "egress"])
        .args(["--package", "egress-tests", "--bin", tool])
        .arg("--no-default-features");
    ebpf::embed_without_diagnostics(layout, &mut build);
    run_program(&mut build)?;
    let profile = layout.target.join(PROFILE);
    Ok([profile.join("egress"), profile.join(tool)])
}

/// Builds a binary with a part that an attacker has taken over, and returns its path.
///
/// # Errors
/// As [`run`].
pub(crate) fn example(layout: &Layout, example: Example) -> Result<PathBuf> {
    run(
        layout,
        &Args {
            example: Some(example),
            ..Args::default()
        },
    )
}

/// Builds with optimisations for `target` and gives the path of the binary.
///
/// # Errors
/// As [`run`].
pub(crate) fn optimised_for(layout: &Layout, target: &str) -> Result<PathBuf> {
    run(
        layout,
        &Args {
            release: true,
            target: Some(target.to_owned()),
            ..Args::default()
        },
    )
}

/// Builds the binary of the attack suite and gives its path.
///
/// # Errors
/// As [`run`].
pub(crate) fn without_layers(layout: &Layout) -> Result<PathBuf> {
    run(
        layout,
        &Args {
            without_layers: true,
            ..Args::default()
        },
    )
}

/// Builds and gives the path of the binary.
///
/// # Errors
/// If a build fails or something that it needs cannot be installed.
pub(crate) fn run(layout: &Layout, args: &Args) -> Result<PathBuf> {
    ebpf::run(layout)?;
    let mut build = cargo();
    build
        .current_dir(&layout.root)
        .args(["build", "--locked", "--package", "egress-user"])
        .args(match args.example {
            Some(example) => ["--example", example.name()],
            None => ["--bin", "egress"],
        });
    ebpf::embed(layout, &mut build);
    let mut target = layout.target.clone();
    if args.without_layers {
        // A directory of its own: nobody shall take this binary for the other one.
        target.push("without-layers");
        build.args(["--features", "without-layers", "--target-dir"]);
        build.arg(&target);
    }
    if let Some(name) = &args.target {
        build.args(["--target", name]);
        // Of its own accord the code in C would be built by a compiler that Debian has for one machine only.
        let compiler = format!("CC_{}", name.replace('-', "_"));
        if name.ends_with("-musl") && env::var_os(&compiler).is_none() {
            build.env(compiler, "musl-gcc");
        }
        target.push(name);
    }
    if args.release {
        build.arg("--release");
    }
    run_program(&mut build)?;
    let profile = target.join(if args.release { "release" } else { "debug" });
    Ok(match args.example {
        Some(example) => profile.join("examples").join(example.name()),
        None => profile.join("egress"),
    })
}
