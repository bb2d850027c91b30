//! Decides whether the command gets a terminal (`--tty`).
use std::io::{self, IsTerminal};

use anyhow::ensure;
use clap::ValueEnum;
use egress_sys::terminal::is_in_foreground;

/// When the command gets a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Tty {
    /// Only if standard input, output, and error of egress are a terminal, and egress runs in its foreground.
    Auto,
    /// Always. The run fails if standard input, output, or error is not a terminal.
    Always,
    /// Never: the command reads and writes pipes.
    Never,
}

impl Tty {
    /// Returns whether the command gets a terminal. `reads_commands` is whether a CI system executes commands in the
    /// output.
    ///
    /// # Errors
    /// Fails for `Always` if the command cannot get a terminal.
    pub(super) fn decide(self, reads_commands: bool) -> anyhow::Result<bool> {
        let streams = [
            ("standard input", io::stdin().is_terminal()),
            ("standard output", io::stdout().is_terminal()),
            ("standard error", io::stderr().is_terminal()),
        ];
        let other = streams.iter().find(|(_, is_terminal)| !is_terminal);
        let in_foreground = is_in_foreground(&io::stdin());
        match self {
            Self::Never => Ok(false),
            Self::Auto => Ok(other.is_none() && in_foreground && !reads_commands),
            Self::Always => {
                if let Some((name, _)) = other {
                    anyhow::bail!("--tty: {name} is not a terminal; leave out --tty");
                }
                ensure!(
                    in_foreground,
                    "--tty: egress is running in the background of its terminal; start it in the foreground"
                );
                ensure!(
                    !reads_commands,
                    "--tty: a CI system executes commands in the output, and egress cannot defuse them in a terminal; leave out --tty"
                );
                Ok(true)
            }
        }
    }
}
