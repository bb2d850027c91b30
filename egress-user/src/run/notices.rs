//! What people should know of a run beyond its verdict, one line each.
use super::collect::Collected;

/// The lines, for standard error and the summary.
pub fn of(run: &Collected) -> Vec<String> {
    let mut lines = Vec::new();
    if run.output.defused > 0 {
        lines.push(format!(
            "{} commands to the CI system in the command's output were defused",
            run.output.defused
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
