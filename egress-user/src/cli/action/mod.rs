//! `egress action`: one step of a workflow. The step reads the action's inputs and writes outputs, job summary, and
//! annotations.
//!
//! The step runs as the runner's user. It starts only `egress run` as root, with an environment of a few variables, and
//! passes the environment of the script to it through a pipe.
mod annotate;
mod inputs;
mod options;
mod outputs;
mod result;
mod start;
mod verify;
mod words;

use std::env;
use std::io::Write;

use annotate::{Annotations, Level};
use inputs::Inputs;

use super::exit;

/// A step of a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Step {
    /// Run a script behind the boundary.
    Run,
    /// Check a packet.
    Verify,
}

/// Executes the step and returns its exit status.
pub fn run(step: Step) -> u8 {
    let mut annotations = Annotations::default();
    let files = outputs::Files::named(|name| env::var_os(name));
    let variable = |name: &str| env::var(name).ok();
    let done = match step {
        Step::Run => script(&mut annotations, variable, &files),
        Step::Verify => verify::run(variable, &files).map(|verified| {
            if let Some(error) = &verified.error {
                annotations.add(Level::Error, error);
            }
            verified.status
        }),
    };
    let status = match done {
        Ok(status) => status,
        Err(error) => {
            annotations.add(Level::Error, &format!("{error:#}"));
            exit::USAGE
        }
    };
    // If the log is closed, there is no other place for the annotations.
    drop(std::io::stdout().write_all(annotations.render().as_bytes()));
    status
}

fn script(
    annotations: &mut Annotations,
    variable: impl Fn(&str) -> Option<String>,
    files: &outputs::Files,
) -> anyhow::Result<u8> {
    let inputs = Inputs::read(variable)?;
    let paths = start::paths(&inputs)?;
    if let Some(warning) = paths.warning(&inputs) {
        annotations.add(Level::Warning, warning);
    }
    let finished = start::run(&inputs, &paths)?;
    let result = result::StepResult::read(&finished, &inputs)?;
    files.write(&result)?;
    if let Some(error) = result.error(&inputs) {
        annotations.add(Level::Error, &error);
    }
    for denied in result.denied() {
        annotations.add(Level::Warning, &denied);
    }
    if let Some(notice) = result.keyless(&inputs) {
        annotations.add(Level::Notice, notice);
    }
    Ok(result.status(&inputs))
}
