//! Options of `egress run` for single variables of the command's environment.
use anyhow::ensure;

use super::heading::ENVIRONMENT;
use crate::run::environment::is_set_by_run;
use crate::run::plan::Exceptions;

/// Exceptions from the rules for environment variables.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Variables {
    /// Pass this variable to the command even if the rules would remove it; repeatable
    #[arg(long = "env-pass", value_name = "NAME", help_heading = ENVIRONMENT)]
    pass: Vec<String>,
    /// Do not pass this variable to the command; repeatable
    #[arg(long = "env-drop", value_name = "NAME", help_heading = ENVIRONMENT)]
    drop: Vec<String>,
}

impl Variables {
    /// Checks the names and returns the exceptions.
    ///
    /// # Errors
    /// When a name is empty, contains `=`, is set by egress, or is given to both options.
    pub(super) fn checked(self) -> anyhow::Result<Exceptions> {
        let Self { pass, drop } = self;
        for name in pass.iter().chain(&drop) {
            ensure!(
                !name.is_empty() && !name.contains('='),
                "{name:?} is not a variable name; --env-pass and --env-drop take a name without a value"
            );
            ensure!(
                !is_set_by_run(name),
                "egress sets variable {name} itself; leave it out of --env-pass and --env-drop"
            );
        }
        let both = pass.iter().find(|name| drop.contains(name));
        if let Some(name) = both {
            anyhow::bail!(
                "variable {name} is given to both --env-pass and --env-drop; leave one out"
            );
        }
        Ok(Exceptions { pass, drop })
    }
}
