//! Extended attributes of a directory's entry, which is never followed if it is a link.
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

/// The entry's path by way of its directory's descriptor: the calls on links take no descriptor.
fn by_descriptor(dir: &impl AsFd, name: &OsStr) -> io::Result<CString> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    Ok(CString::new(path)?)
}

/// Calls with a growing buffer until the kernel's answer fits.
fn filled(mut call: impl FnMut(&mut [u8]) -> libc::ssize_t) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        if let Ok(length) = usize::try_from(call(&mut buffer)) {
            buffer.truncate(length);
            return Ok(buffer);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || buffer.len() > 1 << 20 {
            return Err(error);
        }
        buffer = vec![0; buffer.len() * 16];
    }
}

/// Names of all attributes; none where the file system has no such thing.
///
/// # Errors
/// Those of `llistxattr(2)`.
pub fn names(dir: &impl AsFd, name: &OsStr) -> io::Result<Vec<CString>> {
    let path = by_descriptor(dir, name)?;
    // SAFETY: a NUL-terminated path, and a buffer with its own length.
    let list = filled(|buffer| unsafe {
        libc::llistxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
    });
    match list {
        Ok(list) => Ok(list
            .split_inclusive(|byte| *byte == 0)
            .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
            .map(CStr::to_owned)
            .collect()),
        Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The value of one attribute, if it is set.
///
/// # Errors
/// Those of `lgetxattr(2)`.
pub fn value(dir: &impl AsFd, name: &OsStr, attribute: &CStr) -> io::Result<Option<Vec<u8>>> {
    let path = by_descriptor(dir, name)?;
    // SAFETY: NUL-terminated strings, and a buffer with its own length.
    let value = filled(|buffer| unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            attribute.as_ptr(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    });
    match value {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENODATA | libc::ENOTSUP) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Sets one attribute.
///
/// # Errors
/// Those of `lsetxattr(2)`.
pub fn set(dir: &impl AsFd, name: &OsStr, attribute: &CStr, value: &[u8]) -> io::Result<()> {
    let path = by_descriptor(dir, name)?;
    // SAFETY: NUL-terminated strings, and a buffer with its own length.
    let done = unsafe {
        libc::lsetxattr(
            path.as_ptr(),
            attribute.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Removes one attribute; one that is not there is no error.
///
/// # Errors
/// Those of `lremovexattr(2)`.
pub fn remove(dir: &impl AsFd, name: &OsStr, attribute: &CStr) -> io::Result<()> {
    let path = by_descriptor(dir, name)?;
    // SAFETY: NUL-terminated strings.
    if unsafe { libc::lremovexattr(path.as_ptr(), attribute.as_ptr()) } < 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ENODATA) {
            return Err(error);
        }
    }
    Ok(())
}
