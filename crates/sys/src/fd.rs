//! Descriptors: what was inherited, what is closed, and passing them over a socket.
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, getpeername, recvmsg, sendmsg,
};

/// What the caller left open for this process: number and `readlink` text of every descriptor from 3 up, and of a
/// standard stream that is a socket, since what is written to it leaves by way of its peer. Sockets are followed by
/// the peer's address.
///
/// # Errors
/// When `/proc/self/fd` cannot be read.
pub fn inherited() -> io::Result<Vec<(RawFd, String)>> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<RawFd>().ok());
        // The descriptor of this very listing is gone again when its link is read.
        if let (Some(number), Ok(target)) = (number, std::fs::read_link(entry.path())) {
            let mut target = target.to_string_lossy().into_owned();
            if target.starts_with("socket:") {
                target.push_str(&peer(number));
            } else if number < 3 {
                continue;
            }
            if !target.ends_with("/fd") {
                open.push((number, target));
            }
        }
    }
    open.sort_unstable();
    Ok(open)
}

/// Where the other end of a socket is, to follow its name.
fn peer(socket: RawFd) -> String {
    match getpeername::<SockaddrStorage>(socket) {
        Ok(address) => format!(" connected to {address}"),
        Err(_) => String::from(" not connected"),
    }
}

/// Marks every descriptor from `first` up to be closed by the next `execve`.
///
/// # Errors
/// `ENOSYS` before Linux 5.11.
pub fn cloexec_from(first: u32) -> io::Result<()> {
    // SAFETY: close_range takes three integers; CLOEXEC only changes descriptor flags.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Lets the next `execve` keep `fd`.
///
/// # Errors
/// Those of `fcntl(2)`.
pub fn keep_over_exec(fd: &impl AsFd) -> io::Result<RawFd> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: F_SETFD takes an int and `fd` is open for the length of the borrow.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

/// Sends `message` with `fds` in one datagram.
///
/// # Errors
/// Those of `sendmsg(2)`.
pub fn send_with_fds(socket: &impl AsFd, message: &[u8], fds: &[RawFd]) -> io::Result<()> {
    let iov = [IoSlice::new(message)];
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    sendmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &iov,
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// One datagram with the descriptors that came with it; an empty message means that the peer is gone.
#[derive(Debug)]
pub struct Received {
    /// The message's bytes.
    pub bytes: Vec<u8>,
    /// Its descriptors, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Receives one datagram of at most 64 KiB and 16 descriptors.
///
/// # Errors
/// Those of `recvmsg(2)`; `EMSGSIZE` when the message or its descriptors were cut.
pub fn receive(socket: &impl AsFd, flags: MsgFlags) -> io::Result<Received> {
    let mut buffer = vec![0; 64 * 1024];
    let mut space = nix::cmsg_space!([RawFd; 16]);
    let mut iov = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &mut iov,
        Some(&mut space),
        flags | MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            for number in numbers {
                // SAFETY: the kernel just installed this descriptor for us; nothing else owns it.
                fds.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    if message
        .flags
        .intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC)
    {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let length = message.bytes;
    buffer.truncate(length);
    Ok(Received { bytes: buffer, fds })
}

/// A memory file that holds `bytes`, rewound.
///
/// # Errors
/// Those of `memfd_create(2)` and `write(2)`.
pub fn memory_file(name: &std::ffi::CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    use std::io::{Seek, Write};
    let fd = nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}
