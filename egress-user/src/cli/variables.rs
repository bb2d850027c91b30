//! Options of `egress run` about single variables of the command's environment.
use anyhow::ensure;

use crate::run::environment::is_set_by_run;
use crate::run::plan::Exceptions;

/// Which variables are treated otherwise than by the rules.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Variables {
    /// Pass this variable to the command though its like are kept back; repeatable
    #[arg(long = "env-pass", value_name = "NAME")]
    pass: Vec<String>,
    /// Do not pass this variable to the command; repeatable
    #[arg(long = "env-drop", value_name = "NAME")]
    drop: Vec<String>,
}

impl Variables {
    /// What they come to.
    ///
    /// # Errors
    /// When a name cannot be meant.
    pub(super) fn checked(self) -> anyhow::Result<Exceptions> {
        let Self { pass, drop } = self;
        for name in pass.iter().chain(&drop) {
            ensure!(
                !name.is_empty() && !name.contains('='),
                "{name:?} is no name of a variable; --env-pass and --env-drop take the name alone"
            );
            ensure!(
                !is_set_by_run(name),
                "variable {name} is set by egress itself; leave it out of --env-pass and --env-drop"
            );
        }
        let both = pass.iter().find(|name| drop.contains(name));
        if let Some(name) = both {
            anyhow::bail!("variable {name} is in --env-pass and in --env-drop; leave one out");
        }
        Ok(Exceptions { pass, drop })
    }
}
