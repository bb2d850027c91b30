//! The command's standard streams: pipes, or a terminal.
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use audit_packet::format::boundary::Output;

use super::error::{RunError, system};
use super::plan::Plan;
use super::stdio::{PipePumps, Pipes};
use super::terminal::{Terminal, TerminalPumps};
use crate::ci_commands::Obeyed;

/// The streams before their bytes are passed on.
#[derive(Debug)]
pub(super) enum Streams {
    /// Three pipes.
    Pipes(Pipes),
    /// A terminal, which init creates.
    Terminal(Option<Terminal>),
}

/// Passes on the bytes of the streams.
#[derive(Debug)]
pub(super) enum Pumps {
    /// Threads for three pipes.
    Pipes(PipePumps),
    /// Threads for a terminal.
    Terminal(TerminalPumps),
    /// The result of a terminal's threads that have already finished.
    Left(io::Result<Output>),
}

impl Streams {
    /// Creates the pipes, unless the command gets a terminal.
    ///
    /// # Errors
    /// Fails if a pipe cannot be created.
    pub(super) fn new(plan: &Plan, agent: u32) -> io::Result<Self> {
        if plan.terminal {
            Ok(Self::Terminal(None))
        } else {
            Pipes::new(agent).map(Self::Pipes)
        }
    }

    /// Returns the command's ends of the pipes.
    pub(super) fn agents(&self) -> Option<[BorrowedFd<'_>; 3]> {
        match self {
            Self::Pipes(pipes) => Some(pipes.agents()),
            Self::Terminal(_) => None,
        }
    }

    /// Takes the master of the terminal that init created.
    ///
    /// # Errors
    /// Fails if the window size cannot be passed on, or init created no terminal.
    pub(super) fn take_master(&mut self, master: Option<OwnedFd>) -> Result<(), RunError> {
        if let Self::Terminal(terminal) = self {
            let missing = || io::Error::other("the boundary's init created no terminal");
            let made = master.ok_or_else(missing).and_then(Terminal::new);
            *terminal = Some(system("prepare the command's terminal", made)?);
        }
        Ok(())
    }

    /// Starts to pass on bytes.
    ///
    /// # Order
    /// Call this after every other fork of this process.
    ///
    /// # Errors
    /// Returns the errors of [`Pipes::pump`] and [`Terminal::pump`].
    pub(super) fn pump(self, plan: &Plan) -> io::Result<Pumps> {
        match self {
            Self::Pipes(pipes) => {
                let obeyed = Obeyed::by(&plan.environment);
                pipes.pump(obeyed, plan.input).map(Pumps::Pipes)
            }
            Self::Terminal(terminal) => {
                let missing = || io::Error::other("there is no terminal");
                terminal.ok_or_else(missing)?.pump().map(Pumps::Terminal)
            }
        }
    }
}

impl Pumps {
    /// Passes on the caller's window size.
    pub(super) fn resize(&self) {
        if let Self::Terminal(pumps) = self {
            pumps.resize();
        }
    }

    /// Restores the caller's terminal, so that egress can print its lines.
    pub(super) fn leave_terminal(self) -> Self {
        match self {
            Self::Terminal(pumps) => Self::Left(pumps.finish()),
            other @ (Self::Pipes(_) | Self::Left(_)) => other,
        }
    }

    /// Waits until all output has been passed on.
    ///
    /// # Errors
    /// Returns the errors of [`PipePumps::finish`] and [`TerminalPumps::finish`].
    pub(super) fn finish(self) -> io::Result<Output> {
        match self {
            Self::Pipes(pumps) => pumps.finish(),
            Self::Terminal(pumps) => pumps.finish(),
            Self::Left(result) => result,
        }
    }
}
