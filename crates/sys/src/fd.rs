//! Lists inherited descriptors, controls whether a descriptor survives `execve`, and passes
//! descriptors over sockets.
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{MsgFlags, SockaddrStorage, getpeername};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::raw;

/// Lists the descriptors that the caller left open, as number and `readlink` text. The list contains every descriptor
/// from 3 up, and a standard stream if it is a socket, because data that is written to a socket goes to its peer. The
/// text of a socket includes the peer's address.
///
/// # Errors
/// Fails if `/proc/self/fd` cannot be read.
pub fn inherited() -> io::Result<Vec<(RawFd, String)>> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<RawFd>().ok());
        if let (Some(number), Ok(target)) = (number, std::fs::read_link(entry.path())) {
            let mut target = target.to_string_lossy().into_owned();
            if target.starts_with("socket:") {
                target.push_str(&peer(number));
            } else if number < 3 {
                continue;
            }
            open.push((number, target));
        }
    }
    // The descriptor of the listing itself is closed by now.
    open.retain(|(number, _)| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok());
    open.sort_unstable();
    Ok(open)
}

/// Describes the peer of a socket, as a suffix to the socket's name.
fn peer(socket: RawFd) -> String {
    match getpeername::<SockaddrStorage>(socket) {
        Ok(address) => format!(" connected to {address}"),
        Err(_) => String::from(" not connected"),
    }
}

/// Sets close-on-exec on every descriptor from `first` up.
///
/// # Errors
/// Returns `ENOSYS` before Linux 5.11.
pub fn cloexec_from(first: u32) -> io::Result<()> {
    let arguments = [first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC].map(|word| word as usize);
    // SAFETY: the call takes numbers, and with this flag it closes nothing.
    unsafe { raw::call(libc::SYS_close_range, arguments) }.map(drop)
}

/// Closes every descriptor from 3 up except `kept`.
///
/// # Safety
/// No object that owns or borrows one of the closed descriptors may be used afterwards, not even
/// dropped.
pub(crate) unsafe fn close_others(kept: &impl AsFd) -> io::Result<()> {
    let kept = raw::fd(kept);
    for (first, last) in [(3, kept.saturating_sub(1)), (kept + 1, u32::MAX as usize)] {
        if first <= last {
            // SAFETY: the caller guarantees that no object uses these descriptors any longer.
            unsafe { raw::call(libc::SYS_close_range, [first, last, 0]) }?;
        }
    }
    Ok(())
}

/// Clears close-on-exec, so that the next `execve` keeps `fd`.
///
/// # Errors
/// Returns the error of `fcntl(2)`.
pub fn keep_over_exec(fd: &impl AsFd) -> io::Result<()> {
    Ok(fcntl_setfd(fd, FdFlags::empty())?)
}

/// The maximum number of descriptors in one datagram.
const MOST_FDS: usize = 16;

/// Sends `message` with at most 16 descriptors in one datagram.
///
/// # Errors
/// Returns the error of `sendmsg(2)`, or `EMSGSIZE` for more than 16 descriptors.
pub fn send_with_fds(socket: &impl AsFd, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let rights = SendAncillaryMessage::ScmRights(fds);
    if fds.len() > MOST_FDS || !fds.is_empty() && !control.push(rights) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let iov = [IoSlice::new(message)];
    sendmsg(socket, &iov, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// A datagram with its descriptors. An empty message means that the peer has closed its end.
#[derive(Debug)]
pub struct Received {
    /// The message's bytes.
    pub bytes: Vec<u8>,
    /// The descriptors, with close-on-exec set.
    pub fds: Vec<OwnedFd>,
}

/// Receives one datagram of at most 64 KiB and 16 descriptors.
///
/// # Errors
/// Returns the error of `recvmsg(2)`, or `EMSGSIZE` if the message or its descriptors were
/// truncated.
pub fn receive(socket: &impl AsFd, flags: MsgFlags) -> io::Result<Received> {
    let mut bytes = vec![0; 64 * 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::from_bits_retain(flags.bits().cast_unsigned());
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(
        socket,
        &mut iov,
        &mut control,
        flags | RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            fds.extend(passed);
        }
    }
    let cut = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
    // Because of alignment, the buffer may have room for more than `MOST_FDS` descriptors.
    if received.flags.intersects(cut) || fds.len() > MOST_FDS {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    bytes.truncate(received.bytes);
    Ok(Received { bytes, fds })
}

/// Creates a rewound memory file that holds `bytes`. The file is sealed, so that no process can change it.
///
/// # Errors
/// Returns the error of `memfd_create(2)`, `write(2)`, or `fcntl(2)`.
pub fn memory_file(name: &std::ffi::CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create(name, flags)?);
    file.write_all(bytes)?;
    file.rewind()?;
    let contents = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK;
    fcntl_add_seals(&file, contents | SealFlags::SEAL)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    /// Claims: read-relay-messages*
    #[test]
    fn descriptors_arrive_and_too_many_are_an_error() {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let file = memory_file(c"x", b"passed").unwrap();
        send_with_fds(&ours, b"two", &[file.as_fd(), file.as_fd()]).unwrap();
        let received = receive(&theirs, MsgFlags::empty()).unwrap();
        assert_eq!(
            (received.bytes.as_slice(), received.fds.len()),
            (&b"two"[..], 2)
        );
        for fd in received.fds {
            assert_eq!(rustix::io::fcntl_getfd(&fd).unwrap(), FdFlags::CLOEXEC);
            let mut file = File::from(fd);
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "passed");
            assert!(file.write_all(b"x").is_err() && file.set_len(1).is_err());
        }
        let many = send_with_fds(&ours, b"many", &[file.as_fd(); 17]);
        assert_eq!(many.unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        // Another sender passes more descriptors than the receiver has room for.
        let numbers = [file.as_raw_fd(); 17];
        let rights = [nix::sys::socket::ControlMessage::ScmRights(&numbers)];
        let iov = [IoSlice::new(b"many")];
        nix::sys::socket::sendmsg::<()>(ours.as_raw_fd(), &iov, &rights, MsgFlags::empty(), None)
            .unwrap();
        let cut = receive(&theirs, MsgFlags::empty());
        assert_eq!(cut.unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        let long = vec![b'x'; 64 * 1024 + 1];
        send_with_fds(&ours, &long[1..], &[]).unwrap();
        let whole = receive(&theirs, MsgFlags::empty()).unwrap();
        assert_eq!(whole.bytes.len(), 64 * 1024);
        send_with_fds(&ours, &long, &[]).unwrap();
        let cut = receive(&theirs, MsgFlags::empty());
        assert_eq!(cut.unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        let nothing = receive(&theirs, MsgFlags::MSG_DONTWAIT);
        assert_eq!(nothing.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(ours);
        let end = receive(&theirs, MsgFlags::empty()).unwrap();
        assert!(end.bytes.is_empty() && end.fds.is_empty());
    }
}
