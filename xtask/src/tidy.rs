//! Checks the source files, as a part of `lint`.
//!
//! No file has more than [`MOST_LINES`] lines of code. Lines of tests are not counted. A crate uses only the crates
//! that the table in ARCHITECTURE.md allows. The files of a crate do not import each other in a circle.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::imports;
use crate::layout::Layout;
use crate::program::{cargo, output};

/// Maximum number of lines of code in a file.
const MOST_LINES: usize = 500;

/// Directories with source files of the project.
const SOURCES: [&str; 6] = [
    "crates",
    "egress-common",
    "egress-ebpf",
    "egress-user",
    "tests",
    "xtask",
];

/// Crates that do not read clocks, files, or the network, except for one file that reads keys.
const PURE: [&str; 4] = [
    "crates/packet/src",
    "crates/policy/src",
    "crates/receipts/src",
    "crates/timestamp/src",
];
const READS_KEYS: &str = "crates/receipts/src/keys.rs";
/// Names with which code reads a clock, a file, the environment, or the network.
const IMPURE: [&str; 9] = [
    "std::fs",
    "std::env",
    "std::process",
    "SystemTime",
    "Instant",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
];

/// Checks every source file.
///
/// # Errors
/// Returns all violations, if there are any.
pub(crate) fn run(layout: &Layout) -> Result<()> {
    let mut wrong = Vec::new();
    for file in sources(layout)? {
        let text = fs::read_to_string(layout.root.join(&file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        wrong.extend(impure(&file, &text));
        let lines = code_lines(&file, &text);
        if lines > MOST_LINES {
            wrong.push(format!(
                "{}: {lines} lines without tests; the limit is {MOST_LINES}",
                file.display()
            ));
        }
    }
    let architecture = fs::read_to_string(layout.root.join("ARCHITECTURE.md"))
        .context("cannot read ARCHITECTURE.md, which has the table of crates")?;
    wrong.extend(imports::between_crates(&architecture, &metadata(layout)?)?);
    for crate_dir in crates(layout)? {
        let src = layout.root.join(&crate_dir).join("src");
        wrong.extend(imports::circles(&src, &crate_dir, &rust_files(&src)?)?);
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

/// Returns every source file of the project, relative to its root.
///
/// # Errors
/// Fails if a directory cannot be read.
pub(crate) fn sources(layout: &Layout) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for dir in SOURCES {
        for file in rust_files(&layout.root.join(dir))? {
            files.push(file.strip_prefix(&layout.root).unwrap_or(&file).to_owned());
        }
    }
    Ok(files)
}

/// Returns the folders of the crates that are checked for circles.
fn crates(layout: &Layout) -> Result<Vec<PathBuf>> {
    let mut dirs: Vec<PathBuf> = SOURCES
        .iter()
        .filter(|dir| **dir != "crates")
        .map(PathBuf::from)
        .collect();
    for entry in fs::read_dir(layout.root.join("crates"))? {
        dirs.push(Path::new("crates").join(entry?.file_name()));
    }
    dirs.push(PathBuf::from("tests/support"));
    dirs.sort();
    Ok(dirs)
}

fn metadata(layout: &Layout) -> Result<serde_json::Value> {
    let arguments = [
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
    ];
    Ok(serde_json::from_str(&output(
        cargo().args(arguments).current_dir(&layout.root),
    )?)?)
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(files);
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "target" {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Returns the number of lines before the tests of a file. Test files have no such lines, except in the crate of the
/// tests.
fn code_lines(file: &Path, text: &str) -> usize {
    let mut parts = file.iter();
    let crate_of_tests = parts.next().is_some_and(|first| first == "tests");
    let of_tests = parts.any(|part| part == "tests" || part == "tests.rs");
    if of_tests && !crate_of_tests {
        return 0;
    }
    code(text).count()
}

/// Returns a problem for each name that the code of a pure crate must not use.
fn impure(file: &Path, text: &str) -> Vec<String> {
    let is_pure = PURE.iter().any(|dir| file.starts_with(dir)) && file != Path::new(READS_KEYS);
    if !is_pure || code_lines(file, text) == 0 {
        return Vec::new();
    }
    let lines = code(text).filter(|line| !line.trim_start().starts_with("//"));
    let used = lines.flat_map(|line| IMPURE.iter().filter(|name| line.contains(**name)));
    used.map(|name| format!("{}: a pure crate must not use {name}", file.display()))
        .collect()
}

fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: pure-crates, any-system
    #[test]
    fn clocks_files_and_networks_are_found_in_pure_crates() {
        let text = "// std::fs\nuse std::net::IpAddr;\nlet now = Instant::now();\n#[cfg(test)]\nuse std::fs;\n";
        let found = impure("crates/packet/src/flows.rs".as_ref(), text);
        assert_eq!(
            found,
            ["crates/packet/src/flows.rs: a pure crate must not use Instant"]
        );
        for file in [
            READS_KEYS,
            "crates/relay/src/lib.rs",
            "crates/policy/src/tests.rs",
        ] {
            assert_eq!(impure(file.as_ref(), text), Vec::<String>::new(), "{file}");
        }
    }

    #[test]
    fn tests_are_not_counted_but_in_their_crate() {
        let text = "a\nb\n";
        for (file, lines) in [
            ("egress-user/src/cli/mod.rs", 2),
            ("crates/policy/src/tests.rs", 0),
            ("crates/relay/tests/support.rs", 0),
            ("tests/src/lib.rs", 2),
            ("tests/tests/packet/whole_run.rs", 2),
        ] {
            assert_eq!(code_lines(file.as_ref(), text), lines, "{file}");
        }
    }
}
