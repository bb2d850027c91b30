//! Writes the outputs of the step and its part of the job summary to the files that the runner names.
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::result::StepResult;

/// The runner's files. A file is `None` if the runner does not name it.
#[derive(Debug)]
pub(super) struct Files {
    output: Option<PathBuf>,
    summary: Option<PathBuf>,
}

impl Files {
    /// Returns the files that the runner's environment variables name.
    pub(super) fn named(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| {
            variable(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Self {
            output: path("GITHUB_OUTPUT"),
            summary: path("GITHUB_STEP_SUMMARY"),
        }
    }

    /// Appends the outputs and the job summary.
    ///
    /// # Errors
    /// Fails if a file cannot be written. A step without its outputs must not pass.
    pub(super) fn write(&self, result: &StepResult) -> anyhow::Result<()> {
        for (name, value) in result.outputs() {
            self.output(name, &value)?;
        }
        if let Some(path) = &self.summary {
            append(path, &result.job_summary())?;
        }
        Ok(())
    }

    /// Appends one output.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub(super) fn output(&self, name: &str, value: &str) -> anyhow::Result<()> {
        match &self.output {
            Some(path) => append(path, &output(name, value, &delimiter()?)),
            None => Ok(()),
        }
    }
}

/// Formats one output. The delimiter is random, so that no value can end its own block.
fn output(name: &str, value: &str, delimiter: &str) -> String {
    format!("{name}<<{delimiter}\n{value}\n{delimiter}\n")
}

fn delimiter() -> io::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(format!("egress-{}", hex::encode(random)))
}

fn append(path: &Path, text: &str) -> anyhow::Result<()> {
    let open = OpenOptions::new().append(true).create(true).open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: action-outputs
    #[test]
    fn a_value_cannot_end_its_block() {
        let (one, two) = (delimiter().unwrap(), delimiter().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), "egress-".len() + 32);
        assert_eq!(output("a", "b\nc", "d"), "a<<d\nb\nc\nd\n");
    }
}
