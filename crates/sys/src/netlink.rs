//! Sends requests to the kernel over netlink (netlink(7)) and reads the answers, one message at a
//! time.
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// Length of an `nlmsghdr`.
const HEADER: usize = 16;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `NLM_F_MULTI`: more messages follow, until `NLMSG_DONE`.
const MULTI: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE | NLM_F_CREATE`.
const CHANGE: u16 = 0x505;
/// The longest datagram of an answer that can be read, in bytes. The kernel's datagrams are at most half as long.
const BUFFER: usize = 64 * 1024;

/// A netlink socket.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Returns the error of `socket(2)`.
    pub fn open(protocol: SockProtocol) -> io::Result<Self> {
        let (family, flags) = (AddressFamily::Netlink, SockFlag::SOCK_CLOEXEC);
        Ok(Self(socket(family, SockType::Raw, flags, protocol)?))
    }

    /// Sends a request for one object and returns the body of the answer.
    ///
    /// # Errors
    /// Returns the kernel's error, or `InvalidData` if the answer is truncated.
    pub fn ask(&self, kind: u16, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut found = Vec::new();
        self.talk(kind, REQUEST, body, |answer| {
            found = answer.to_vec();
            Ok(())
        })?;
        Ok(found)
    }

    /// Sends a request for a list and passes the body of each entry to `each`.
    ///
    /// # Errors
    /// Returns the errors of [`Self::ask`] and of `each`.
    pub fn list(
        &self,
        kind: u16,
        body: &[u8],
        each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.talk(kind, DUMP, body, each)
    }

    /// Creates or replaces one object.
    ///
    /// # Errors
    /// Returns the kernel's error, or `InvalidData` if the answer is truncated.
    pub fn change(&self, kind: u16, body: &[u8]) -> io::Result<()> {
        self.talk(kind, CHANGE, body, |_answer| Ok(()))
    }

    fn talk(
        &self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let length = u32::try_from(HEADER + body.len()).unwrap_or_default();
        let mut request = length.to_ne_bytes().to_vec();
        request.extend(kind.to_ne_bytes());
        request.extend(flags.to_ne_bytes());
        request.extend([0; 8]);
        request.extend(body);
        send(self.0.as_raw_fd(), &request, MsgFlags::empty())?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            if read(buffer.get(..length).unwrap_or_default(), &mut each)? == Answer::Whole {
                return Ok(());
            }
        }
    }
}

/// Whether the answer ends with the datagram that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The answer ends.
    Whole,
    /// The next datagram continues the answer.
    GoesOn,
}

/// Reads the messages of one datagram, and calls `each` with the body of every entry.
///
/// # Errors
/// Returns the kernel's error, `InvalidData` if the answer is truncated, or an error of `each`.
pub(super) fn read(
    mut rest: &[u8],
    each: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Answer> {
    if rest.is_empty() {
        return Err(cut_short());
    }
    while !rest.is_empty() {
        let size = u32::from_ne_bytes(field(rest, 0)?);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let body = rest.get(HEADER..size).ok_or_else(cut_short)?;
        match i32::from(u16::from_ne_bytes(field(rest, 4)?)) {
            libc::NLMSG_DONE => return Ok(Answer::Whole),
            libc::NLMSG_ERROR => {
                return match i32::from_ne_bytes(field(body, 0)?) {
                    0 => Ok(Answer::Whole),
                    errno => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
                };
            }
            _ => each(body)?,
        }
        if u16::from_ne_bytes(field(rest, 6)?) & MULTI == 0 {
            return Ok(Answer::Whole);
        }
        rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Answer::GoesOn)
}

/// Reads the `N` bytes at an offset.
///
/// # Errors
/// Returns `InvalidData` if there are fewer than `N` bytes at the offset.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    bytes
        .get(at..at + N)
        .and_then(|slice| slice.try_into().ok())
        .ok_or_else(cut_short)
}

/// Finds the value of the first attribute of a kind (`struct nlattr`).
///
/// # Errors
/// Returns `InvalidData` if an attribute before it is truncated.
pub(super) fn attribute(mut rest: &[u8], kind: u16) -> io::Result<Option<&[u8]>> {
    while !rest.is_empty() {
        let size = usize::from(u16::from_ne_bytes(field(rest, 0)?));
        let value = rest.get(4..size).ok_or_else(cut_short)?;
        if u16::from_ne_bytes(field(rest, 2)?) == kind {
            return Ok(Some(value));
        }
        rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(None)
}

/// Appends an attribute with an address to a request.
pub(super) fn push_address(request: &mut Vec<u8>, kind: u16, address: IpAddr) {
    let mut push = |octets: &[u8], length: u16| {
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(octets);
    };
    match address {
        IpAddr::V4(address) => push(&address.octets(), 4 + 4),
        IpAddr::V6(address) => push(&address.octets(), 4 + 16),
    }
}

/// Returns the error for a truncated answer.
fn cut_short() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the kernel's netlink answer is truncated",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a message of this kind, with flags.
    fn message(kind: i32, flags: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let kind = u16::try_from(kind).unwrap();
        let head = [kind.to_ne_bytes(), flags.to_ne_bytes()].concat();
        [&length.to_ne_bytes(), head.as_slice(), &[0; 8], body].concat()
    }

    fn errno(bytes: &[u8]) -> Option<i32> {
        read(bytes, &mut |_| Ok(())).unwrap_err().raw_os_error()
    }

    #[test]
    fn answer_ends_where_the_kernel_ends_it() {
        let entry = message(24, MULTI, b"body");
        let done = message(libc::NLMSG_DONE, MULTI, &[0; 4]);
        for (bytes, answer, entries) in [
            (entry.clone(), Answer::GoesOn, 1),
            (
                [entry.clone(), entry.clone(), done].concat(),
                Answer::Whole,
                2,
            ),
            (message(24, 0, b"body"), Answer::Whole, 1),
            (message(libc::NLMSG_ERROR, 0, &[0; 4]), Answer::Whole, 0),
        ] {
            let mut found = Vec::new();
            let read = read(&bytes, &mut |body| {
                found.push(body.to_vec());
                Ok(())
            });
            assert_eq!(read.unwrap(), answer);
            assert_eq!(found, vec![b"body".to_vec(); entries]);
        }
        for length in 0..entry.len() {
            assert!(read(&entry[..length], &mut |_| Ok(())).is_err(), "{length}");
        }
    }

    #[test]
    fn every_error_number_is_an_error() {
        for (number, expected) in [(-2, 2), (i32::MIN, i32::MAX)] {
            let body = i32::to_ne_bytes(number);
            let bytes = message(libc::NLMSG_ERROR, 0, &body);
            assert_eq!(errno(&bytes), Some(expected));
        }
        assert_eq!(errno(&message(libc::NLMSG_ERROR, 0, &[0; 3])), None);
    }
}
