//! How much the output for people contains (`--quiet`, `--verbose`).
use clap::Args;

/// Options for the amount of output.
#[derive(Debug, Default, Args)]
pub(super) struct DetailArgs {
    /// Print only warnings and errors, not the result
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Print every step, and all rows of the result instead of the first ten of each kind
    #[arg(short, long)]
    verbose: bool,
}

/// The amount of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Only warnings and errors.
    Quiet,
    /// The result, with the first rows of each kind.
    Normal,
    /// Every step, and the whole result.
    Verbose,
}

impl DetailArgs {
    /// Returns the selected amount of output.
    pub(super) fn detail(&self) -> Detail {
        match (self.quiet, self.verbose) {
            (true, _) => Detail::Quiet,
            (false, true) => Detail::Verbose,
            (false, false) => Detail::Normal,
        }
    }
}

impl Detail {
    /// Returns the maximum number of rows of one kind.
    pub(super) fn rows(self) -> usize {
        match self {
            Self::Quiet => 0,
            Self::Normal => 10,
            Self::Verbose => usize::MAX,
        }
    }
}
