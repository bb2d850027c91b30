//! Passes a plan to each helper process of the supervisor, and messages from the helper to the
//! supervisor.
//!
//! A helper is the same binary with a hidden first argument and the numbers of two descriptors: a sealed memory file
//! with its plan as JSON, and a `SOCK_SEQPACKET` socket that carries one JSON text per message.
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use nix::sys::socket::{MsgFlags, send};
use rustix::io::{FdFlags, fcntl_setfd};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Takes ownership of the inherited descriptor with the number `fd`. This works once for each descriptor.
///
/// egress opens its descriptors with close-on-exec, so a descriptor without that flag was inherited through `execve`.
/// Taking the descriptor sets the flag.
///
/// # Errors
/// Returns `EBADF` if the descriptor is not open, was not inherited or has already been taken,
/// and `EINVAL` for the standard streams.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    static TAKING: Mutex<()> = Mutex::new(());
    if fd < 3 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let _taking = TAKING.lock();
    // SAFETY: `F_GETFD` takes no pointer and is defined for every number.
    match unsafe { libc::fcntl(fd, libc::F_GETFD) } {
        -1 => return Err(io::Error::last_os_error()),
        flags if flags & libc::FD_CLOEXEC != 0 => {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        _ => {}
    }
    // SAFETY: the descriptor is open. The descriptor was inherited through `execve` and not taken
    // before, because a taken descriptor has the flag. No object therefore owns it. The lock keeps
    // other threads from taking the descriptor at the same time.
    let taken = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl_setfd(&taken, FdFlags::CLOEXEC)?;
    Ok(taken)
}

/// Reads and closes the plan in the inherited memory file `fd`.
///
/// # Errors
/// Fails if the descriptor cannot be taken or does not contain the JSON of a `T`.
pub fn read_plan<T: DeserializeOwned>(fd: RawFd) -> io::Result<T> {
    let mut file = File::from(inherited(fd)?);
    file.seek(SeekFrom::Start(0))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::from)
}

/// Sends one message on a control socket, and blocks while its buffer is full.
///
/// # Errors
/// Returns the error of `send(2)`; `EPIPE` means that the supervisor has ended.
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

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use super::*;

    /// Claims: control-socket
    #[test]
    fn what_was_not_inherited_or_is_taken_is_refused() {
        let file = tempfile::tempfile().unwrap();
        let refused = |fd| inherited(fd).unwrap_err().raw_os_error();
        assert_eq!(refused(file.as_raw_fd()), Some(libc::EBADF));
        // Set up like a descriptor that was inherited through execve.
        let copy = rustix::io::fcntl_dupfd_cloexec(&file, 900).unwrap();
        fcntl_setfd(&copy, FdFlags::empty()).unwrap();
        let number = copy.into_raw_fd();
        let taken = inherited(number).unwrap();
        assert_eq!(refused(number), Some(libc::EBADF));
        drop(taken);
        assert_eq!(refused(number), Some(libc::EBADF));
        assert_eq!(refused(2), Some(libc::EINVAL));
    }
}
