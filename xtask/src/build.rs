//! `build`: builds the kernel programs, then the `egress` binary that contains them.
use std::env;
use std::num::NonZeroUsize;
use std::panic;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::Result;

use crate::ebpf;
use crate::layout::Layout;
use crate::program::{self, cargo, run as run_program};

/// A binary for the tests in which an attacker has taken over one process.
#[derive(Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Example {
    /// The relay tries to reach the destinations that an attacker would try.
    ExploitedRelay,
    /// The built-in mediator changes its receipts when it has ended.
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

#[derive(Default, clap::Args)]
pub(crate) struct Args {
    /// Build with optimizations
    #[arg(long)]
    release: bool,
    /// Build a test binary in which an attacker has taken over a process, instead of `egress`
    #[arg(long, value_enum, conflicts_with = "without_layers")]
    example: Option<Example>,
    /// Build the binary of the attack suite, which can leave out a layer of the boundary
    #[arg(long, conflicts_with = "release")]
    without_layers: bool,
    /// Build for this target instead of this machine
    #[arg(long)]
    target: Option<String>,
}

/// Builds with optimizations, and returns the path of the binary.
///
/// # Errors
/// Returns the errors of [`run`].
pub(crate) fn optimised(layout: &Layout) -> Result<PathBuf> {
    run(
        layout,
        &Args {
            release: true,
            ..Args::default()
        },
    )
}

/// Returns the path of the binary that [`quick`] builds.
pub(crate) fn quickly_built(layout: &Layout) -> PathBuf {
    layout.target.join("debug/egress")
}

/// Builds `egress` as fast as possible. This `egress` is not optimized, and it has no kernel
/// programs for `egress run --debug`.
///
/// # Errors
/// Returns the errors of [`run`].
pub(crate) fn quick(layout: &Layout) -> Result<()> {
    let lock = ebpf::lock(layout)?;
    // The kernel programs are mostly compiled by one thread, so everything else is compiled at the same time. The build
    // script that embeds them occupies one job while it waits for them.
    let wanted = env::var("CARGO_BUILD_JOBS").ok();
    let jobs = match wanted.and_then(|jobs| jobs.parse::<usize>().ok()) {
        Some(jobs) => jobs,
        None => thread::available_parallelism().map_or(1, NonZeroUsize::get),
    };
    // The build uses the same profile as xtask, whose dependencies are already compiled.
    let build = || {
        let mut build = cargo();
        build
            .current_dir(&layout.root)
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .env("CARGO_PROFILE_DEV_INCREMENTAL", "false")
            .args(["build", "--locked", "--package", "egress-user"])
            .arg(format!("--jobs={}", jobs.saturating_add(1)));
        ebpf::embed_when_unlocked(layout, &mut build);
        build
    };
    thread::scope(|scope| {
        let programs = scope.spawn(move || {
            let built = ebpf::without_diagnostics(layout);
            let object = built.and_then(|object| ebpf::set_time(&object, &lock));
            drop(lock);
            object
        });
        let built = run_program(&mut build());
        programs
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic))?;
        built
    })?;
    // If the object of an earlier build was there, the first build may have embedded that one.
    run_program(&mut build())
}

/// Builds a test binary in which an attacker has taken over a process, and returns its path.
///
/// # Errors
/// Returns the errors of [`run`].
pub(crate) fn example(layout: &Layout, example: Example) -> Result<PathBuf> {
    run(
        layout,
        &Args {
            example: Some(example),
            ..Args::default()
        },
    )
}

/// Builds with optimizations for `target`, and returns the path of the binary.
///
/// # Errors
/// Returns the errors of [`run`].
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

/// Builds `egress` with optimizations for a system without kernel programs, and returns the path of the binary.
///
/// # Errors
/// Fails if the build fails.
pub(crate) fn verifier_for(layout: &Layout, target: &str) -> Result<PathBuf> {
    run_program(
        cargo()
            .current_dir(&layout.root)
            .args(["build", "--locked", "--release", "--package", "egress-user"])
            .args(["--bin", "egress", "--target", target]),
    )?;
    let file = if target.contains("-windows-") {
        "egress.exe"
    } else {
        "egress"
    };
    Ok(layout.target.join(target).join("release").join(file))
}

/// Builds the binary of the attack suite, and returns its path.
///
/// # Errors
/// Returns the errors of [`run`].
pub(crate) fn without_layers(layout: &Layout) -> Result<PathBuf> {
    run(
        layout,
        &Args {
            without_layers: true,
            ..Args::default()
        },
    )
}

/// Fails if a second build with optimizations compiles anything.
///
/// # Errors
/// Fails if the build compiles something or cannot run.
pub(crate) fn optimised_compiles_nothing(layout: &Layout) -> Result<()> {
    let args = Args {
        release: true,
        ..Args::default()
    };
    // A run of this task also writes the object, whose time the build script watches.
    ebpf::run(layout)?;
    ebpf::compiles_nothing(layout)?;
    let (mut build, _) = command(layout, &args);
    program::compiles_nothing(&mut build)
}

/// Builds, and returns the path of the binary.
///
/// # Errors
/// Fails if a build fails, or if a tool for the build cannot be installed.
pub(crate) fn run(layout: &Layout, args: &Args) -> Result<PathBuf> {
    ebpf::run(layout)?;
    let (mut build, built) = command(layout, args);
    run_program(&mut build)?;
    Ok(built)
}

/// Returns the command that builds the binary after the kernel programs, and the path of the binary.
fn command(layout: &Layout, args: &Args) -> (Command, PathBuf) {
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
        // This binary gets its own directory, so that it is not confused with the product.
        target.push("without-layers");
        build.args(["--features", "without-layers", "--target-dir"]);
        build.arg(&target);
    }
    if let Some(name) = &args.target {
        build.args(["--target", name]);
        // The default compiler for C code has a Debian package for only one architecture.
        let compiler = format!("CC_{}", name.replace('-', "_"));
        if name.ends_with("-musl") && env::var_os(&compiler).is_none() {
            build.env(compiler, "musl-gcc");
        }
        target.push(name);
    }
    if args.release {
        build.arg("--release");
    }
    let profile = target.join(if args.release { "release" } else { "debug" });
    let built = match args.example {
        Some(example) => profile.join("examples").join(example.name()),
        None => profile.join("egress"),
    };
    (build, built)
}
