//! `dist`: builds a release. A release consists of a static binary, its checksum as a row of dist/egress.sha256, and
//! its bill of materials.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::build;
use crate::layout::Layout;
use crate::program::{cargo, output, program, run as run_program};
use crate::setup;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Target to build the release for
    #[arg(long, value_parser = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"])]
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
/// Fails if a build fails, or the binary is not static.
pub(crate) fn run(layout: &Layout, args: &Args) -> Result<PathBuf> {
    setup::for_dist(layout, &args.target)?;
    let built = build::optimised_for(layout, &args.target)?;
    ensure!(
        is_static(&built)?,
        "{} needs a dynamic linker",
        built.display()
    );
    let version = env!("CARGO_PKG_VERSION");
    let machine = args.target.split('-').next().unwrap_or_default();
    let name = format!("egress-{version}-{machine}-linux");
    let dir = layout.target.join("dist");
    fs::create_dir_all(&dir)?;
    let binary = dir.join(&name);
    fs::copy(&built, &binary)?;

    let sum = output(program("sha256sum").arg(&binary))?;
    let sum = sum
        .split_whitespace()
        .next()
        .context("sha256sum printed nothing")?;
    let url = match &args.from {
        Some(from) => format!("{}/{name}", from.trim_end_matches('/')),
        None => name.clone(),
    };
    fs::write(
        dir.join(format!("{name}.row")),
        format!("{version} {machine} {sum} {url}\n"),
    )?;

    let bill = format!("{name}.cdx");
    let mut cyclonedx = cargo();
    cyclonedx
        .current_dir(&layout.root)
        .args(["cyclonedx", "--format", "json", "--target", &args.target])
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
    Ok(dir)
}
