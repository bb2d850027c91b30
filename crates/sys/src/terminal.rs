//! Pseudoterminals, and the modes of the caller's terminal.
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, fchown};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{self, OptionalActions, Termios};

/// Opens a new pseudoterminal in the devpts of this mount namespace. Returns the master and the
/// terminal, which the user `owner` can open again by its path.
///
/// # Errors
/// Fails if `/dev/ptmx` cannot be opened, or if the terminal's owner cannot be changed.
pub fn make(owner: u32) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let terminal = ioctl_tiocgptpeer(&master, flags)?;
    fchown(
        &terminal,
        Some(Uid::from_raw(owner)),
        Some(Gid::from_raw(owner)),
    )?;
    fchmod(&terminal, Mode::S_IRUSR | Mode::S_IWUSR)?;
    Ok((master, terminal))
}

/// Makes `terminal` the controlling terminal of this session.
///
/// # Errors
/// Returns the error of the `TIOCSCTTY` request of `ioctl(2)`.
pub fn control(terminal: &impl AsFd) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(terminal)?)
}

/// Gives the terminal `to` the window size of `from`. The kernel sends SIGWINCH to the foreground
/// process group of `to`.
///
/// # Errors
/// Returns the error of `ioctl(2)`.
pub fn copy_size(from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
    Ok(termios::tcsetwinsize(to, termios::tcgetwinsize(from)?)?)
}

/// Whether this process is in the foreground process group of its terminal.
pub fn is_in_foreground(terminal: &impl AsFd) -> bool {
    termios::tcgetpgrp(terminal).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// A terminal in raw mode, and the modes that it had before.
#[derive(Debug)]
pub struct RawMode<T: AsFd> {
    terminal: T,
    before: Termios,
    raw: Termios,
}

impl<T: AsFd> RawMode<T> {
    /// Puts a terminal into raw mode.
    ///
    /// # Errors
    /// Returns the error of `tcgetattr(3)` or `tcsetattr(3)`.
    pub fn enter(terminal: T) -> io::Result<Self> {
        let before = termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&terminal, OptionalActions::Drain, &raw)?;
        Ok(Self {
            terminal,
            before,
            raw,
        })
    }

    /// Restores the modes, unless another process has changed them. If `discards_input`, input that
    /// no process has read is discarded.
    ///
    /// # Errors
    /// Returns the error of `tcgetattr(3)` or `tcsetattr(3)`.
    pub fn restore(self, discards_input: bool) -> io::Result<()> {
        let now = termios::tcgetattr(&self.terminal)?;
        let modes = |of: &Termios| {
            (
                of.input_modes,
                of.output_modes,
                of.control_modes,
                of.local_modes,
            )
        };
        if modes(&now) != modes(&self.raw) {
            return Ok(());
        }
        let action = if discards_input {
            OptionalActions::Flush
        } else {
            OptionalActions::Drain
        };
        Ok(termios::tcsetattr(&self.terminal, action, &self.before)?)
    }
}
