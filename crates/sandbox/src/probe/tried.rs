//! The result type of probe functions, and the errors that count as a denial.
use std::io;

use super::model::Observation;

/// The result of a probe function, or the error that the function received.
pub(super) type Tried = io::Result<Observation>;

/// Errors that count as a denial for a probe. Any other error means that the probe failed for
/// another reason, so the result proves nothing.
pub(super) type Refusals = &'static [i32];

/// A system call that the filter or the kernel denies.
pub(super) const CALL: Refusals = &[libc::EPERM, libc::EACCES, libc::ENOSYS];
/// A socket of a family, type, or protocol that is not allowed.
pub(super) const SOCKET: Refusals = &[
    libc::EPERM,
    libc::EACCES,
    libc::EAFNOSUPPORT,
    libc::EPROTONOSUPPORT,
    libc::ESOCKTNOSUPPORT,
];
/// A datagram or connection that is denied.
pub(super) const SEND: Refusals = &[libc::EPERM, libc::EACCES];
/// A datagram or connection over IPv6, which the machine may not support.
pub(super) const SEND_V6: Refusals = &[
    libc::EPERM,
    libc::EACCES,
    libc::EAFNOSUPPORT,
    libc::EADDRNOTAVAIL,
    libc::ENETUNREACH,
    libc::ENOPROTOOPT,
];
/// A file that is hidden or must not be opened.
pub(super) const FILE: Refusals = &[
    libc::ENOENT,
    libc::ENOTDIR,
    libc::EACCES,
    libc::EPERM,
    libc::EROFS,
];
/// A path socket or FIFO that is hidden, must not be opened, or has no listener.
pub(super) const LISTENER: Refusals = &[
    libc::ENOENT,
    libc::ENOTDIR,
    libc::EACCES,
    libc::EPERM,
    libc::ECONNREFUSED,
    libc::ENXIO,
];
/// A process that is hidden or must not be traced.
pub(super) const PROCESS: Refusals = &[libc::ENOENT, libc::ESRCH, libc::EACCES, libc::EPERM];
/// A user namespace. `ENOSPC` means that the permitted number of user namespaces is zero.
pub(super) const NAMESPACE: Refusals = &[libc::EPERM, libc::EACCES, libc::ENOSYS, libc::ENOSPC];
/// A System V segment that does not exist in this namespace.
pub(super) const SEGMENT: Refusals = &[libc::ENOENT, libc::EACCES, libc::EPERM, libc::ENOSYS];
/// A device. `ENXIO` and `ENODEV` mean that the device has no driver.
pub(super) const DEVICE: Refusals = &[
    libc::EPERM,
    libc::EACCES,
    libc::ENOENT,
    libc::EROFS,
    libc::ENXIO,
    libc::ENODEV,
];
/// Terminal input. `EIO` means that the kernel denies terminal input to all unprivileged processes.
pub(super) const TERMINAL: Refusals = &[libc::EPERM, libc::EACCES, libc::ENOENT, libc::EIO];

/// Whether an error counts as a denial. A call that does not exist on this architecture has no
/// error number.
pub(super) fn is_refusal(error: &io::Error, refusals: Refusals) -> bool {
    match error.raw_os_error() {
        Some(errno) => refusals.contains(&errno),
        None => error.kind() == io::ErrorKind::Unsupported,
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "callers return this value as a Tried"
)]
pub(super) fn reached(what: impl Into<String>) -> Tried {
    Ok(Observation::Reached(what.into()))
}

/// Returns the result of a probe that received no error but did not reach its target.
#[expect(
    clippy::unnecessary_wraps,
    reason = "callers return this value as a Tried"
)]
pub(super) fn refused(what: impl Into<String>) -> Tried {
    Ok(Observation::Refused(what.into()))
}
