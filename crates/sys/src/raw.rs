//! Makes system calls that no library wraps.
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Makes a system call and returns its result.
///
/// # Safety
/// Every argument must be valid for its position in the call. A pointer must stay valid for
/// everything that the call reads or writes through it. A descriptor that the call closes or
/// replaces must not belong to an object that is used afterwards.
pub(crate) unsafe fn call<const N: usize>(
    number: libc::c_long,
    arguments: [usize; N],
) -> io::Result<usize> {
    const { assert!(N <= 6) };
    let at = |index| arguments.get(index).copied().unwrap_or_default();
    // SAFETY: the caller guarantees that the arguments are valid. The kernel ignores arguments that
    // the call does not have.
    let result = unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) };
    usize::try_from(result).map_err(|_negative| io::Error::last_os_error())
}

/// Makes a system call that returns a new descriptor.
///
/// # Safety
/// The requirements of [`call`] apply. In addition, the call must return a descriptor that it has
/// just created.
pub(crate) unsafe fn open<const N: usize>(
    number: libc::c_long,
    arguments: [usize; N],
) -> io::Result<OwnedFd> {
    // SAFETY: the caller guarantees that the arguments are valid.
    let result = unsafe { call(number, arguments) }?;
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the call has just created this descriptor (guaranteed by the caller), so nothing else
    // owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns an open descriptor as a system call argument.
pub(crate) fn fd(fd: &impl AsFd) -> usize {
    sign_extended(fd.as_fd().as_raw_fd())
}

/// Returns an `int` as a system call argument.
pub(crate) fn sign_extended(number: i32) -> usize {
    (number as isize).cast_unsigned()
}

/// Returns the address of a value as a system call argument.
pub(crate) fn pointer<T: ?Sized>(value: *const T) -> usize {
    value.expose_provenance()
}
