//! `lint`: runs the checks that do not load kernel programs. The fastest checks come first.
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::book;
use crate::claims;
use crate::dist;
use crate::ebpf;
use crate::layout::Layout;
use crate::program::{
    cargo, cargo_home, on_path_or_installed, output, program, run as run_program, succeeds,
    without_package,
};
use crate::setup;
use crate::tidy;

/// Runs every check.
///
/// # Errors
/// Returns the error of the first check that fails.
pub(crate) fn run(layout: &Layout) -> Result<()> {
    let kernel_programs = layout.root.join("egress-ebpf/Cargo.toml");
    step("form");
    run_program(in_root(layout).args(["fmt", "--all", "--check"]))?;
    if kernel_programs.exists() {
        run_program(
            in_root(layout)
                .args(["fmt", "--check", "--manifest-path"])
                .arg(&kernel_programs),
        )?;
    }

    step("length of files and imports");
    tidy::run(layout)?;
    step("claims and their tests");
    let untested = claims::check(layout)?;
    ensure!(untested.is_empty(), "{}", untested.join("\n"));
    step("clippy");
    run_program(
        in_root(layout)
            .args(["clippy", "--locked", "--workspace", "--all-targets"])
            .args(["--features", "egress-tests/real-pipelock"])
            .args(["--", "-D", "warnings"]),
    )?;
    if kernel_programs.exists() {
        setup::for_ebpf(layout)?;
        ebpf::clippy(layout)?;
    }

    step("systems on which packets can be verified");
    elsewhere(layout)?;

    step("features that no release may have");
    features(layout)?;

    step("schemas of the formats");
    schemas(layout, true)?;

    step("documentation");
    run_program(
        in_root(layout)
            .args([
                "doc",
                "--locked",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;

    setup::for_lint(layout)?;
    step("links and book");
    book::run(layout)?;
    step("licenses and sources of dependencies");
    deny(layout)?;
    step("unused dependencies");
    let machete = on_path_or_installed("cargo-machete")
        .context("cargo-machete is not installed; run `cargo xtask setup`")?;
    run_program(
        program(machete)
            .current_dir(&layout.root)
            .args(["--skip-target-dir"]),
    )?;
    println!("lint: all clean");
    Ok(())
}

/// Writes the schemas of the formats and the tables of their members. With `is_check`, fails if the files differ.
pub(crate) fn schemas(layout: &Layout, is_check: bool) -> Result<()> {
    for (package, example) in [("audit-packet", "schemas"), ("egress-policy", "schema")] {
        run_program(
            in_root(layout)
                .args(["run", "--locked", "--quiet", "--package", package])
                .args(["--features", "schema", "--example", example])
                .args(["--", "docs"])
                .args(is_check.then_some("--check")),
        )?;
    }
    Ok(())
}

/// Checks that `egress` compiles for the other systems on which reviewers may verify packets.
fn elsewhere(layout: &Layout) -> Result<()> {
    for (target, _) in dist::VERIFY {
        let mut add = program("rustup");
        add.current_dir(&layout.root)
            .args(["target", "add", target]);
        if !succeeds(&mut add) {
            println!(
                "lint: {target} is not checked, because rustup cannot install its library on this machine"
            );
            continue;
        }
        run_program(
            in_root(layout)
                .args(["check", "--locked", "--package", "egress-user"])
                .args(["--bin", "egress", "--target", target]),
        )?;
    }
    Ok(())
}

/// Checks that no other feature enables the feature that removes layers of the boundary. Only a binary of the tests may
/// have this feature.
fn features(layout: &Layout) -> Result<()> {
    const TESTS_ONLY: &str = "without-layers";
    let metadata =
        output(in_root(layout).args(["metadata", "--locked", "--no-deps", "--format-version=1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata
        .get("packages")
        .and_then(serde_json::Value::as_array);
    let features = packages
        .into_iter()
        .flatten()
        .find(|package| {
            package.get("name").and_then(serde_json::Value::as_str) == Some("egress-user")
        })
        .and_then(|package| package.get("features")?.as_object())
        .context("cargo metadata has no features of egress-user")?;
    ensure!(
        features.contains_key(TESTS_ONLY),
        "egress-user has no feature {TESTS_ONLY}; update this check"
    );
    for (name, enables) in features {
        let enables = enables
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one.as_str() == Some(TESTS_ONLY)));
        ensure!(
            !enables,
            "feature {name} of egress-user enables {TESTS_ONLY}, which no release may have"
        );
    }
    Ok(())
}

/// Runs `cargo deny`, with the advisories if their database was downloaded.
fn deny(layout: &Layout) -> Result<()> {
    let path = on_path_or_installed("cargo-deny")
        .context("cargo-deny is not installed; run `cargo xtask setup`")?;
    let deny = || {
        let mut command = program(&path);
        without_package(&mut command);
        command
            .current_dir(&layout.root)
            .args(["--workspace", "--all-features"]);
        command
    };
    run_program(deny().args(["check", "bans", "licenses", "sources"]))?;
    // This call checks the dependencies of the kernel object, which has another license.
    run_program(
        deny()
            .current_dir(layout.root.join("egress-ebpf"))
            .args(["check", "licenses"]),
    )?;
    // Lint does not download the database, because the database is on a git host and not in a package registry.
    let fetched = cargo_home().is_some_and(|home| has_directory(&home.join("advisory-dbs")));
    if fetched {
        run_program(deny().args(["check", "--disable-fetch", "advisories"]))
    } else {
        println!(
            "lint: advisories are not checked; run `cargo deny fetch db`, and then run lint again"
        );
        Ok(())
    }
}

/// Returns whether `dir` contains a directory. A failed download leaves only a lock file.
fn has_directory(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    })
}

fn in_root(layout: &Layout) -> std::process::Command {
    let mut command = cargo();
    command.current_dir(&layout.root);
    command
}

fn step(name: &str) {
    println!("lint: {name}");
}
