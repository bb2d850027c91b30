//! How the supervisor's helper processes receive their plan and answer.
//!
//! A helper is the same binary with a hidden first argument and two descriptor numbers: a sealed
//! memory file that holds its plan as JSON, and a `SOCK_SEQPACKET` socket for one JSON text a message.
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{MsgFlags, send};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Takes ownership of an inherited descriptor by its number.
///
/// # Errors
/// `EBADF` when no such descriptor is open, `EINVAL` for the standard streams.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 3 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: F_GETFD takes no pointer and is defined for every descriptor number.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: F_SETFD takes an int and is defined for the open descriptor `fd`.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` is open (checked above) and the plan names each descriptor once, so nothing
    // else in this fresh process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads and closes the plan in the inherited memory file `fd`.
///
/// # Errors
/// When the descriptor is not open or does not hold the JSON of a `T`.
pub fn read_plan<T: DeserializeOwned>(fd: RawFd) -> io::Result<T> {
    let mut file = File::from(inherited(fd)?);
    file.seek(SeekFrom::Start(0))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::from)
}

/// Sends one message on a control socket, waiting while its buffer is full.
///
/// # Errors
/// Those of `send(2)`; `EPIPE` means that the supervisor is gone.
pub fn send_message<T: Serialize>(socket: &impl AsFd, message: &T) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    loop {
        match send(socket.as_fd().as_raw_fd(), &text, MsgFlags::MSG_NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
