//! `renameat2(2)`, which nix provides for only one C library.
use std::ffi::OsStr;
use std::os::fd::AsFd;

use nix::errno::Errno;
pub use rustix::fs::RenameFlags;

/// Renames `name` in one directory to `new` in another.
///
/// # Errors
/// Returns the error of `renameat2(2)`.
pub fn rename(
    from: impl AsFd,
    name: &OsStr,
    to: impl AsFd,
    new: &OsStr,
    flags: RenameFlags,
) -> nix::Result<()> {
    rustix::fs::renameat_with(from, name, to, new, flags)
        .map_err(|error| Errno::from_raw(error.raw_os_error()))
}
