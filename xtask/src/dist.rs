//! `dist`: builds a release. A release consists of a binary, its checksum, and its bill of materials. For Linux, the
//! binary is static, and the checksum is a row of dist/egress.sha256.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::build;
use crate::layout::Layout;
use crate::program::{cargo, output, program, run as run_program};
use crate::setup;

/// Targets of releases for machines that run commands. These binaries contain the kernel programs.
const RUN: [&str; 2] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"];
/// Targets of releases for reviewers, with the names of their systems. These binaries have `egress verify` and the
/// other commands that do not need Linux.
pub(crate) const VERIFY: [(&str, &str); 3] = [
    ("aarch64-apple-darwin", "macos"),
    ("x86_64-apple-darwin", "macos"),
    ("x86_64-pc-windows-gnu", "windows.exe"),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Target to build the release for
    #[arg(long, value_parser = RUN.into_iter().chain(VERIFY.map(|(target, _)| target)).collect::<Vec<_>>())]
    target: String,
    /// URL of the directory from which the files will be downloaded, for the row of dist/egress.sha256
    #[arg(long, value_name = "URL")]
    from: Option<String>,
}

/// Returns whether a program is statically linked.
///
/// # Errors
/// Fails if the program cannot be read.
pub(crate) fn is_static(binary: &Path) -> Result<bool> {
    let headers = output(
        program("readelf")
            .args(["--program-headers", "--wide"])
            .arg(binary),
    )?;
    Ok(!headers.contains("INTERP"))
}

/// Builds the release, and returns its directory.
///
/// # Errors
/// Fails if a build fails, or a binary for Linux is not static.
pub(crate) fn run(layout: &Layout, args: &Args) -> Result<PathBuf> {
    let version = env!("CARGO_PKG_VERSION");
    let machine = args.target.split('-').next().unwrap_or_default();
    let verifier = VERIFY.iter().find(|(target, _)| *target == args.target);
    let system = verifier.map_or("linux", |(_, system)| system);
    let name = format!("egress-{version}-{machine}-{system}");
    let built = if verifier.is_some() {
        setup::for_verifier(layout, &args.target)?;
        build::verifier_for(layout, &args.target)?
    } else {
        setup::for_dist(layout, &args.target)?;
        let built = build::optimised_for(layout, &args.target)?;
        ensure!(
            is_static(&built)?,
            "{} needs a dynamic linker",
            built.display()
        );
        built
    };
    let dir = layout.target.join("dist");
    fs::create_dir_all(&dir)?;
    let binary = dir.join(&name);
    fs::copy(&built, &binary)?;
    let sum = hex::encode(Sha256::digest(fs::read(&binary)?));
    if verifier.is_some() {
        fs::write(
            dir.join(format!("{name}.sha256")),
            format!("{sum}  {name}\n"),
        )?;
    } else {
        let url = match &args.from {
            Some(from) => format!("{}/{name}", from.trim_end_matches('/')),
            None => name.clone(),
        };
        fs::write(
            dir.join(format!("{name}.row")),
            format!("{version} {machine} {sum} {url}\n"),
        )?;
    }
    bill(layout, &args.target, &dir, &name)?;
    Ok(dir)
}

/// Writes the bill of materials of a binary.
fn bill(layout: &Layout, target: &str, dir: &Path, name: &str) -> Result<()> {
    let bill = format!("{name}.cdx");
    let mut cyclonedx = cargo();
    cyclonedx
        .current_dir(&layout.root)
        .args(["cyclonedx", "--format", "json", "--target", target])
        .args(["--manifest-path", "egress-user/Cargo.toml"])
        .args(["--override-filename", &bill]);
    run_program(&mut cyclonedx)?;
    let bill = format!("{bill}.json");
    let made = layout.root.join("egress-user").join(&bill);
    let text = fs::read_to_string(&made).context("no bill of materials was made")?;
    // The bill of materials must not contain the path of the build directory.
    let root = layout.root.display().to_string();
    fs::write(dir.join(&bill), text.replace(&root, "/egress"))?;
    // The tool writes one file beside each package of the workspace.
    for entry in fs::read_dir(&layout.root)? {
        let made = entry?.path().join(&bill);
        if made.exists() {
            fs::remove_file(made)?;
        }
    }
    Ok(())
}
