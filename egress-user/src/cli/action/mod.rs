//! `egress action`: one step of a workflow, from the action's inputs to outputs, job summary,
//! annotations and the step's exit status.
//!
//! It runs as the runner's own user. Only `egress run` is started as root, with an environment that
//! holds nothing but a few names; what the script is to see goes there through a pipe.
mod annotate;
mod inputs;
mod outputs;
mod result;
mod start;

use std::env;
use std::io::Write;

use annotate::{Annotations, Level};
use inputs::Inputs;

use super::exit;

/// Runs the step. Returns its exit status.
pub fn run() -> u8 {
    let mut annotations = Annotations::default();
    let status = match step(&mut annotations) {
        Ok(status) => status,
        Err(error) => {
            annotations.add(Level::Error, &format!("{error:#}"));
            exit::USAGE
        }
    };
    // Nobody is left to tell when the log is closed.
    drop(std::io::stdout().write_all(annotations.render().as_bytes()));
    status
}

fn step(annotations: &mut Annotations) -> anyhow::Result<u8> {
    let variable = |name: &str| env::var_os(name);
    let inputs = Inputs::read(|name| env::var(name).ok())?;
    let place = start::place(&inputs)?;
    if let Some(warning) = place.warning(&inputs) {
        annotations.add(Level::Warning, warning);
    }
    let finished = start::run(&inputs, &place)?;
    let result = result::Result::read(&finished, &inputs)?;
    let files = outputs::Files::named(variable);
    files.write(&result)?;
    if let Some(error) = result.error(&inputs) {
        annotations.add(Level::Error, &error);
    }
    for denied in result.denied() {
        annotations.add(Level::Warning, &denied);
    }
    Ok(result.status(&inputs))
}
