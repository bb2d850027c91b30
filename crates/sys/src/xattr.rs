//! Reads and sets extended attributes of open files.
use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};

/// Sets the attribute `name`.
///
/// # Errors
/// Returns the error of `fsetxattr(2)`.
pub fn set(file: &impl AsFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    Ok(fsetxattr(file, name, value, XattrFlags::empty())?)
}

/// Reads the attribute `name`. Returns `None` if the attribute is missing, longer than 4,096 bytes
/// or cannot be read.
pub fn get(file: &impl AsFd, name: &CStr) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(4096);
    fgetxattr(file, name, spare_capacity(&mut value)).ok()?;
    Some(value)
}
