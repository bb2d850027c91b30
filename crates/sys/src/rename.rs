//! `renameat2(2)`, which nix has with one C library alone.
use std::ffi::OsStr;
use std::os::fd::AsFd;

use nix::errno::Errno;
pub use rustix::fs::RenameFlags;

/// Renames `name` of one directory to `new` of another.
///
/// # Errors
/// Those of `renameat2(2)`.
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
