//! Extended attributes of open files.
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sets attribute `name`.
///
/// # Errors
/// Those of `fsetxattr(2)`.
pub fn set(file: &impl AsFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: a NUL-terminated name, and a buffer of the length given that outlives the call.
    let done = unsafe {
        libc::fsetxattr(
            file.as_fd().as_raw_fd(),
            name.as_ptr(),
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

/// Reads attribute `name`; `None` when there is none of at most 4,096 bytes.
pub fn get(file: &impl AsFd, name: &CStr) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    // SAFETY: a NUL-terminated name, and a buffer of the length given that outlives the call.
    let length = unsafe {
        libc::fgetxattr(
            file.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}
