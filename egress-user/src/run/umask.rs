//! Replaces the caller's umask (umask(2)), and keeps it for the files that belong to the caller.
use std::sync::OnceLock;

use nix::sys::stat::{Mode, umask};

/// The umask that this process inherited.
static CALLER: OnceLock<Mode> = OnceLock::new();

/// Sets the umask of this process and of the processes that it starts to 022. The mediator and the command have
/// accounts without privileges, and could not enter the run's directories if a stricter umask reduced their modes.
///
/// # Order
/// Call this while this process has one thread, before it creates a file.
pub fn replace() {
    let inherited = umask(Mode::from_bits_truncate(0o022));
    CALLER.get_or_init(|| inherited);
}

/// Returns `mode` without the bits of the caller's umask, for a file that the caller keeps.
pub(crate) fn reduced(mode: u32) -> Mode {
    let removed = CALLER.get().copied().unwrap_or(Mode::empty());
    Mode::from_bits_truncate(mode).difference(removed)
}
