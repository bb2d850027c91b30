//! `attacks`: tries every technique of the attack suite. With `--without`, tries the techniques again without a layer
//! of the boundary, and shows which techniques this layer stops.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::build;
use crate::ebpf;
use crate::layout::Layout;
use crate::program::{cargo, run as run_program};
use crate::setup;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run the suite again without this layer of the boundary
    #[arg(long, value_enum, value_name = "LAYER")]
    without: Option<Without>,
    /// Try only techniques whose names contain this text
    #[arg(value_name = "NAME")]
    only: Option<String>,
}

/// The layers that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Without {
    /// Each layer, one after the other
    All,
    /// The kernel programs
    Ebpf,
    /// The network namespace
    Netns,
    /// The file view
    PrivateRun,
    /// The system call filters
    Seccomp,
}

impl Without {
    /// Returns the layers to leave out, one at a time.
    fn layers(self) -> Vec<&'static str> {
        match self {
            Self::All => vec!["ebpf", "netns", "private-run", "seccomp"],
            Self::Ebpf => vec!["ebpf"],
            Self::Netns => vec!["netns"],
            Self::PrivateRun => vec!["private-run"],
            Self::Seccomp => vec!["seccomp"],
        }
    }
}

/// Rows of the suite, by technique.
type Rows = BTreeMap<String, Value>;

/// Runs the suite, prints the table, and writes it as JSON to the target directory.
///
/// # Errors
/// Fails if the result of a technique differs from the result that its script expects, or if no technique succeeds
/// although a layer was left out. The second check is skipped if `args` selects techniques by name.
pub(crate) fn run(layout: &Layout, args: &Args) -> Result<()> {
    setup::everything(layout)?;
    let binary = build::optimised(layout)?;
    let whole = suite(layout, args, &binary, None)?;
    let mut without = BTreeMap::new();
    if let Some(asked) = args.without {
        let binary = build::without_layers(layout)?;
        for layer in asked.layers() {
            println!("attacks: without {layer}");
            without.insert(layer, suite(layout, args, &binary, Some(layer))?);
        }
    }
    print(&whole, &without);
    let path = layout.target.join("attacks.json");
    let document = json!({"whole": whole.values().collect::<Vec<_>>(), "without": without});
    fs::write(&path, format!("{document:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("attacks: {}", path.display());
    check(&whole, "the whole boundary")?;
    for (layer, rows) in &without {
        check(rows, &format!("a boundary without {layer}"))?;
        ensure!(
            args.only.is_some() || rows.values().any(|row| text(row, "result") == "reachable"),
            "no technique needs the layer {layer}, so the suite does not test it"
        );
    }
    Ok(())
}

/// Runs the suite once. Failures of techniques are in the rows.
fn suite(layout: &Layout, args: &Args, binary: &Path, without: Option<&str>) -> Result<Rows> {
    let path = layout.target.join("attacks.rows");
    if path.exists() {
        fs::remove_file(&path)?;
    }
    let mut command = cargo();
    ebpf::embed(layout, &mut command)
        .current_dir(&layout.root)
        .args(["test", "--locked", "--package", "egress-tests"])
        .args(["--test", "attacks"])
        .env("EGRESS_BIN", binary)
        .env("EGRESS_ATTACKS_ROWS", &path);
    if let Some(layer) = without {
        command.env("EGRESS_TEST_WITHOUT", layer);
    }
    command.arg("--").args(&args.only);
    let ended = run_program(&mut command);
    let rows = read(&path)?;
    ensure!(!rows.is_empty(), "no technique was tried");
    // If the suite itself fails, its rows do not show this.
    if rows.values().all(as_expected) {
        ended?;
    }
    Ok(rows)
}

fn read(path: &PathBuf) -> Result<Rows> {
    let rows =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    rows.lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line)?;
            Ok((text(&row, "technique").to_owned(), row))
        })
        .collect()
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn as_expected(row: &Value) -> bool {
    text(row, "result") == text(row, "expected")
}

fn check(rows: &Rows, what: &str) -> Result<()> {
    let wrong: Vec<String> = rows
        .values()
        .filter(|row| !as_expected(row))
        .map(|row| {
            format!(
                "{}: {}, expected {}",
                text(row, "technique"),
                text(row, "result"),
                text(row, "expected")
            )
        })
        .collect();
    ensure!(wrong.is_empty(), "with {what}:\n{}", wrong.join("\n"));
    Ok(())
}

/// Prints the table: technique, control, result, whether it is in the flow log, and the result without each layer.
fn print(whole: &Rows, without: &BTreeMap<&str, Rows>) {
    let layers: Vec<String> = without
        .keys()
        .map(|layer| format!("{:<12}", format!("-{layer}")))
        .collect();
    println!(
        "{:<52} {:<8} {:<10} {:<5} {}stopped by",
        "technique",
        "control",
        "result",
        "seen",
        layers.concat()
    );
    for (name, row) in whole {
        let control = match text(row, "result") {
            "control failed" => "failed",
            "broken" => "none",
            _ => "through",
        };
        let seen = match row.get("seen") {
            Some(Value::Bool(true)) => "yes",
            Some(Value::Bool(false)) => "no",
            _ => "-",
        };
        let others: Vec<String> = without
            .values()
            .map(|rows| {
                format!(
                    "{:<12}",
                    rows.get(name).map_or("", |row| text(row, "result"))
                )
            })
            .collect();
        let stops: Vec<&str> = row
            .get("stops")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        println!(
            "{name:<52} {control:<8} {:<10} {seen:<5} {}{}",
            text(row, "result"),
            others.concat(),
            stops.join(" ")
        );
    }
    let count = |result: &str| {
        whole
            .values()
            .filter(|row| text(row, "result") == result)
            .count()
    };
    println!(
        "attacks: {} techniques, {} contained, {} reachable, {} control failed, {} unseen, {} broken",
        whole.len(),
        count("contained"),
        count("reachable"),
        count("control failed"),
        count("unseen"),
        count("broken")
    );
}
