//! Asks the kernel by netlink (netlink(7)) and reads what it answers, one message at a time.
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// Length of a `nlmsghdr`.
const HEADER: usize = 16;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `NLM_F_MULTI`: more messages follow, up to `NLMSG_DONE`.
const MULTI: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE | NLM_F_CREATE`.
const CHANGE: u16 = 0x505;
/// Longest answer that is read at once; the kernel makes its own ones half as long.
const BUFFER: usize = 64 * 1024;

/// A netlink socket.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    /// Opens one, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Those of `socket(2)`.
    pub fn open(protocol: SockProtocol) -> io::Result<Self> {
        let (family, flags) = (AddressFamily::Netlink, SockFlag::SOCK_CLOEXEC);
        Ok(Self(socket(family, SockType::Raw, flags, protocol)?))
    }

    /// Asks for one thing; gives the body of the answer.
    ///
    /// # Errors
    /// The error that the kernel answers with, and an answer that is cut short.
    pub fn ask(&self, kind: u16, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut found = Vec::new();
        self.talk(kind, REQUEST, body, |answer| {
            found = answer.to_vec();
            Ok(())
        })?;
        Ok(found)
    }

    /// Asks for a list; `each` gets the body of every entry.
    ///
    /// # Errors
    /// Those of [`Self::ask`], and those of `each`.
    pub fn list(
        &self,
        kind: u16,
        body: &[u8],
        each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.talk(kind, DUMP, body, each)
    }

    /// Changes one thing, whether or not it is there.
    ///
    /// # Errors
    /// The error that the kernel answers with, and an answer that is cut short.
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
            let mut rest = buffer.get(..length).unwrap_or_default();
            if rest.is_empty() {
                return Err(cut_short());
            }
            while !rest.is_empty() {
                let size = u32::from_ne_bytes(field(rest, 0)?);
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                let body = rest.get(HEADER..size).ok_or_else(cut_short)?;
                match i32::from(u16::from_ne_bytes(field(rest, 4)?)) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        return match i32::from_ne_bytes(field(body, 0)?) {
                            0 => Ok(()),
                            errno => Err(io::Error::from_raw_os_error(-errno)),
                        };
                    }
                    _ => each(body)?,
                }
                if u16::from_ne_bytes(field(rest, 6)?) & MULTI == 0 {
                    return Ok(());
                }
                rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// The `N` bytes at an offset.
///
/// # Errors
/// When there are fewer.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    bytes
        .get(at..at + N)
        .and_then(|slice| slice.try_into().ok())
        .ok_or_else(cut_short)
}

/// The value of the first attribute of a kind (`struct nlattr`).
///
/// # Errors
/// When an attribute before it is cut short.
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

/// Adds an attribute with an address to a request.
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

/// What an answer is that ends too early.
fn cut_short() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the kernel's answer is cut short",
    )
}
