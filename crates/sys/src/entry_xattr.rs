//! Extended attributes of directory entries. For a symbolic link, the attributes belong to the link
//! itself.
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lremovexattr, lsetxattr};
use rustix::io::Errno;

/// Returns the entry's path through its directory's descriptor, because the calls that do not follow links do not take
/// a descriptor.
fn by_descriptor(dir: &impl AsFd, name: &OsStr) -> OsString {
    let mut path = OsString::from(format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()));
    path.push(name);
    path
}

/// Repeats the call with a larger buffer while the kernel's answer does not fit, up to a limit.
fn filled(call: impl Fn(&mut Vec<u8>) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(256);
    loop {
        match call(&mut buffer) {
            Err(Errno::RANGE) if buffer.capacity() <= 1 << 20 => {
                buffer = Vec::with_capacity(buffer.capacity() * 16);
            }
            result => return result.map(|_length| buffer),
        }
    }
}

/// Lists the names of all attributes. The list is empty if the file system does not support them.
///
/// # Errors
/// Returns the error of `llistxattr(2)`.
pub fn names(dir: &impl AsFd, name: &OsStr) -> io::Result<Vec<CString>> {
    let path = by_descriptor(dir, name);
    match filled(|buffer| llistxattr(&path, spare_capacity(buffer))) {
        Ok(list) => Ok(list
            .split_inclusive(|byte| *byte == 0)
            .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
            .map(CStr::to_owned)
            .collect()),
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Reads the value of one attribute, if it is set.
///
/// # Errors
/// Returns the error of `lgetxattr(2)`.
pub fn value(dir: &impl AsFd, name: &OsStr, attribute: &CStr) -> io::Result<Option<Vec<u8>>> {
    let path = by_descriptor(dir, name);
    match filled(|buffer| lgetxattr(&path, attribute, spare_capacity(buffer))) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sets one attribute.
///
/// # Errors
/// Returns the error of `lsetxattr(2)`.
pub fn set(dir: &impl AsFd, name: &OsStr, attribute: &CStr, value: &[u8]) -> io::Result<()> {
    let path = by_descriptor(dir, name);
    Ok(lsetxattr(&path, attribute, value, XattrFlags::empty())?)
}

/// Removes one attribute. A missing attribute is not an error.
///
/// # Errors
/// Returns the error of `lremovexattr(2)`.
pub fn remove(dir: &impl AsFd, name: &OsStr, attribute: &CStr) -> io::Result<()> {
    match lremovexattr(by_descriptor(dir, name), attribute) {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
