//! `egress doctor`: checks the machine, lists what killed runs left behind, and removes it with `--repair`.
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use egress_sandbox::probe::model::ProbeResult;
use egress_workspace::apply::{self, Recovered};
use pipelock_receipts::findings::visible;
use serde_json::json;

use super::exit;
use super::failure::{self, Form};
use super::{output, print, style};
use crate::ci_commands::{harmless, harmless_json};
use crate::run::doctor::{self, Check, CheckState};
use crate::run::prepare::on_host;
use crate::run::stale_runs::{self, StaleItem, StaleKind, SweepReach, Swept};
use crate::run::umask;

/// Examples and exit statuses, for `--help`.
const HELP: &str = "\
Examples:
  egress doctor
  egress doctor --repair --workdir DIR

Exit status:
  0   this machine can run egress, and killed runs left nothing behind
  1   something is missing, was left behind, or could not be repaired
  64  an argument is wrong";

/// Arguments of `egress doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct DoctorArgs {
    /// Remove what killed runs left behind, and complete or undo the changes that they were applying to the working
    /// directory. The evidence of killed runs is moved to /run/egress/kept
    #[arg(long)]
    repair: bool,
    /// Working directory to check
    #[arg(long, value_name = "DIR", default_value = ".")]
    workdir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Checks the machine, repairs it with `--repair`, prints the result, and returns the exit status.
pub fn run(args: &DoctorArgs) -> u8 {
    umask::replace();
    let form = Form::of(args.json);
    let workdir = match workdir(&args.workdir) {
        Ok(path) => path,
        Err(error) => return failure::report(form, error.as_ref(), None, exit::USAGE),
    };
    // The repair comes before the probes, because the probes create a separate run.
    let swept = if args.repair {
        stale_runs::sweep(SweepReach::Tree).map(Some)
    } else {
        Ok(None)
    };
    let found = swept.and_then(|swept| Ok((swept.unwrap_or_default(), stale_runs::find()?)));
    let (swept, left) = match found {
        Ok(found) => found,
        Err(error) if nix::unistd::geteuid().is_root() && on_host().is_ok() => {
            return failure::report(form, &error, error.hint(), exit::INVALID);
        }
        // Without root of the host, nothing can be read. The first check reports that root is missing.
        Err(_) => (Swept::default(), Vec::new()),
    };
    let recovered = if args.repair {
        apply::recover(&workdir)
    } else {
        Ok(Vec::new())
    };
    let recovered = match recovered {
        Ok(recovered) => recovered,
        Err(error) => {
            let text = format!(
                "cannot complete or undo the changes that a killed run was applying to {}",
                workdir.display()
            );
            let error = anyhow::Error::from(error).context(text);
            return failure::report(form, error.as_ref(), None, exit::INVALID);
        }
    };
    let mut checks = doctor::examine(&workdir);
    let bad = |check: &Check| matches!(check.state, CheckState::Missing | CheckState::Untried);
    let mut probes = Vec::new();
    if checks.iter().any(bad) {
        checks.push(doctor::not_probed());
    } else {
        let results = probe(&workdir);
        checks.push(doctor::probed(&results));
        probes = results.unwrap_or_default();
    }
    let status = if checks.iter().any(bad) || !left.is_empty() {
        exit::INVALID
    } else {
        exit::SUCCESS
    };
    let text = if args.json {
        as_json(&checks, &probes, &swept, &recovered, &left, status)
    } else {
        style::stdout(harmless(&as_text(
            &checks, &probes, &swept, &recovered, &left,
        )))
    };
    output::line(&text).map_or(exit::INVALID, |()| status)
}

/// Runs the probes of a run in `workdir`. An error is one line of text.
fn probe(workdir: &Path) -> Result<Vec<ProbeResult>, String> {
    let plan = super::run::trial(workdir).map_err(|error| format!("{error:#}"))?;
    let prepared = plan.prepare().map_err(|error| error.on_one_line())?;
    Ok(prepared.into_probe_results())
}

fn workdir(path: &Path) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    let found = path
        .canonicalize()
        .with_context(|| format!("cannot use working directory {shown}"))?;
    ensure!(
        found.is_dir(),
        "working directory {shown} is not a directory"
    );
    Ok(found)
}

fn as_text(
    checks: &[Check],
    probes: &[ProbeResult],
    swept: &Swept,
    recovered: &[Recovered],
    left: &[StaleItem],
) -> String {
    let mut lines = Vec::new();
    for check in checks {
        let word = match check.state {
            CheckState::Ok => "ok",
            CheckState::Warning => "warning",
            CheckState::Missing => "missing",
            CheckState::Untried => "untried",
        };
        let mut line = format!("{word:<8} {:<10} {}", check.name, visible(&check.seen));
        if let Some(todo) = check.todo.as_deref().filter(|todo| !todo.is_empty()) {
            line.push_str("; ");
            line.push_str(todo);
        }
        lines.push(line);
    }
    lines.extend(probes.iter().map(|probe| {
        let (outcome, detail) = (probe.outcome.label(), visible(&probe.detail));
        format!("  {outcome:<14} {:<28} {detail}", probe.name)
    }));
    lines.extend(swept.kept.iter().map(print::kept));
    lines.extend(recovered.iter().map(print::recovered));
    let shown = |path: &PathBuf| visible(&path.to_string_lossy());
    for path in &swept.removed {
        lines.push(format!("removed  {}", shown(path)));
    }
    for leaving in left {
        let failed = swept.failed.iter().find(|(path, _)| *path == leaving.path);
        let todo = match (leaving.kind, failed) {
            (StaleKind::Unknown, _) => {
                "this version did not create it; remove it when no egress process is running"
                    .to_owned()
            }
            (_, Some((_, why))) => format!("cannot remove it: {why}"),
            (StaleKind::Cgroup | StaleKind::Run | StaleKind::Unfinished, None) => {
                "run `egress doctor --repair` to save its evidence and remove it".to_owned()
            }
        };
        lines.push(format!("left     {}; {todo}", shown(&leaving.path)));
    }
    lines.join("\n")
}

fn as_json(
    checks: &[Check],
    probes: &[ProbeResult],
    swept: &Swept,
    recovered: &[Recovered],
    left: &[StaleItem],
    status: u8,
) -> String {
    let failed: Vec<_> = swept
        .failed
        .iter()
        .map(|(path, error)| json!({"path": path, "error": error.to_string()}))
        .collect();
    harmless_json(&json!({
        "schema_version": "egress.doctor.v1",
        "checks": checks,
        "probes": probes,
        "kept": swept.kept,
        "recovered": recovered,
        "removed": swept.removed,
        "failed": failed,
        "left": left,
        "exit": status,
    }))
}
