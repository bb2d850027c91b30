//! What people should know of a run beyond its verdict, one line each.
use super::collect::Collected;
use crate::mediator::process::facts::Facts;

/// The lines, for standard error and the summary.
pub fn of(run: &Collected) -> Vec<String> {
    let mut lines = Vec::new();
    if run.output.defused > 0 {
        lines.push(format!(
            "{} commands to the CI system in the command's output were defused",
            run.output.defused
        ));
    }
    lines.extend(run.pipelock.iter().flat_map(Facts::lines));
    let credentials = &run.measured.credentials;
    for one in &credentials.redactions {
        lines.push(format!(
            "stored credentials were hidden from the command: {} ({})",
            one.path.display(),
            one.keys.join(", ")
        ));
    }
    if credentials.cut_short {
        lines.push(String::from(
            "stored credentials were looked for in a part of the workspace only: it has many directories",
        ));
    }
    for one in &run.measured.opened {
        lines.push(format!(
            "the command could use the host's socket {}",
            one.path.display()
        ));
    }
    for file in &run.command_files {
        let keys = if file.keys.is_empty() {
            String::new()
        } else {
            format!(" ({})", file.keys.join(", "))
        };
        lines.push(format!(
            "{} bytes written to {}{keys} were not given to the runner",
            file.bytes, file.name
        ));
    }
    lines
}
