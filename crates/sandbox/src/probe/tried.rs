//! What a piece of code that makes an attempt gives, and the errors by which the boundary refuses one.
use std::io;

use super::model::Attempt;

/// An attempt that was made, or the error that it met.
pub(super) type Tried = io::Result<Attempt>;

/// Errors of a probe that are a refusal. With any other one the attempt failed by itself, which proves nothing.
pub(super) type Refusals = &'static [i32];

/// A system call that the filter or the kernel refuses.
pub(super) const CALL: Refusals = &[libc::EPERM, libc::EACCES, libc::ENOSYS];
/// A socket of another family, type, or protocol.
pub(super) const SOCKET: Refusals = &[
    libc::EPERM,
    libc::EACCES,
    libc::EAFNOSUPPORT,
    libc::EPROTONOSUPPORT,
    libc::ESOCKTNOSUPPORT,
];
/// A datagram or a connection.
pub(super) const SEND: Refusals = &[libc::EPERM, libc::EACCES];
/// The same by IPv6, which a machine may not have.
pub(super) const SEND_V6: Refusals = &[
    libc::EPERM,
    libc::EACCES,
    libc::EAFNOSUPPORT,
    libc::EADDRNOTAVAIL,
    libc::ENETUNREACH,
    libc::ENOPROTOOPT,
];
/// A file that is hidden, or that may not be opened.
pub(super) const FILE: Refusals = &[
    libc::ENOENT,
    libc::ENOTDIR,
    libc::EACCES,
    libc::EPERM,
    libc::EROFS,
];
/// A path socket or a FIFO: as a file, or nobody listens behind it.
pub(super) const LISTENER: Refusals = &[
    libc::ENOENT,
    libc::ENOTDIR,
    libc::EACCES,
    libc::EPERM,
    libc::ECONNREFUSED,
    libc::ENXIO,
];
/// A process that is hidden, or that may not be traced.
pub(super) const PROCESS: Refusals = &[libc::ENOENT, libc::ESRCH, libc::EACCES, libc::EPERM];
/// A user namespace: `ENOSPC` where their number is limited to none.
pub(super) const NAMESPACE: Refusals = &[libc::EPERM, libc::EACCES, libc::ENOSYS, libc::ENOSPC];
/// A System V segment that is not in this namespace.
pub(super) const SEGMENT: Refusals = &[libc::ENOENT, libc::EACCES, libc::EPERM, libc::ENOSYS];
/// A device: `ENXIO` and `ENODEV` where it has no driver.
pub(super) const DEVICE: Refusals = &[
    libc::EPERM,
    libc::EACCES,
    libc::ENOENT,
    libc::EROFS,
    libc::ENXIO,
    libc::ENODEV,
];
/// Input for a terminal: `EIO` where the kernel refuses it to everybody without rights.
pub(super) const TERMINAL: Refusals = &[libc::EPERM, libc::EACCES, libc::ENOENT, libc::EIO];

/// Whether an error is one of these. A call that the program cannot make on this architecture has no number.
pub(super) fn is_refusal(error: &io::Error, refusals: Refusals) -> bool {
    match error.raw_os_error() {
        Some(errno) => refusals.contains(&errno),
        None => error.kind() == io::ErrorKind::Unsupported,
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "it is the end of what gives a Tried"
)]
pub(super) fn reached(what: impl Into<String>) -> Tried {
    Ok(Attempt::Reached(what.into()))
}

/// Nothing failed, and what was aimed at was not there.
#[expect(
    clippy::unnecessary_wraps,
    reason = "it is the end of what gives a Tried"
)]
pub(super) fn refused(what: impl Into<String>) -> Tried {
    Ok(Attempt::Refused(what.into()))
}
